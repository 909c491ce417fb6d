#pragma once

#include "daemon/process/proc_fs.h"
