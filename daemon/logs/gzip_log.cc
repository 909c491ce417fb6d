#include "daemon/logs/gzip_log.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/errno_status.h"

namespace supervisor {
namespace {

constexpr size_t kBlockBytes = 64u << 10;
constexpr int kGzipWindow = 15 + 16;  // zlib: the largest window, a gzip header
constexpr size_t kFieldBytes = 24;    // device, inode, birth time: little-endian, 8 bytes each
constexpr size_t kExtraBytes = 4 + kFieldBytes;

using Extra = std::array<unsigned char, kExtraBytes>;

void PutNumber(unsigned char* to, uint64_t value) {
  for (int i = 0; i < 8; ++i) {
    to[i] = static_cast<unsigned char>(value >> (8 * i));
  }
}

uint64_t GetNumber(const unsigned char* from) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) {
    value = value << 8 | from[i];
  }
  return value;
}

Extra MakeExtra(const FileId& id) {
  Extra extra{'S', 'V', kFieldBytes, 0};
  PutNumber(&extra[4], id.device);
  PutNumber(&extra[12], id.inode);
  PutNumber(&extra[20], static_cast<uint64_t>(id.born_ns));
  return extra;
}

// All of it, or errno.
int WriteAll(int fd, const unsigned char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t n = write(fd, bytes, count);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return errno;
    }
    bytes += n;
    count -= static_cast<size_t>(n);
  }
  return 0;
}

// Owns the zlib stream of one compression.
struct Deflater {
  z_stream stream{};
  bool ready = false;
  Deflater() {
    ready = deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() {
    if (ready) {
      deflateEnd(&stream);
    }
  }
};

}  // namespace

absl::Status CompressLog(int input, int output, const FileId& original, const std::atomic<bool>& stop) {
  Deflater deflater;
  if (!deflater.ready) {
    return absl::ResourceExhaustedError("compression: no memory");
  }
  z_stream& stream = deflater.stream;
  Extra extra = MakeExtra(original);
  gz_header header{};
  header.os = 3;  // Unix
  header.extra = extra.data();
  header.extra_len = kExtraBytes;
  deflateSetHeader(&stream, &header);

  auto in = std::make_unique<std::array<unsigned char, kBlockBytes>>();
  auto out = std::make_unique<std::array<unsigned char, kBlockBytes>>();
  off_t at = 0;
  for (int result = Z_OK; result != Z_STREAM_END;) {
    if (stop) {
      return absl::CancelledError("compression: stopped");
    }
    const ssize_t got = pread(input, in->data(), in->size(), at);
    if (got < 0) {
      return ErrnoToStatus(errno, "compression: read");
    }
    at += got;
    stream.next_in = in->data();
    stream.avail_in = static_cast<uInt>(got);
    do {
      stream.next_out = out->data();
      stream.avail_out = static_cast<uInt>(out->size());
      result = deflate(&stream, got == 0 ? Z_FINISH : Z_NO_FLUSH);
      if (const int error = WriteAll(output, out->data(), out->size() - stream.avail_out); error != 0) {
        return ErrnoToStatus(error, "compression: write");
      }
    } while (stream.avail_out == 0 && result != Z_STREAM_END);
  }
  struct stat status {};
  if (fstat(input, &status) == 0) {
    const timespec times[2] = {status.st_atim, status.st_mtim};
    futimens(output, times);
  }
  if (fdatasync(output) != 0) {
    return ErrnoToStatus(errno, "compression: fdatasync");
  }
  return absl::OkStatus();
}

std::optional<FileId> OriginalOfGzip(int fd) {
  constexpr size_t kFixedBytes = 12;  // RFC 1952: ten bytes, then with FEXTRA the length of the extra field
  constexpr unsigned char kFlagExtra = 4;
  std::array<unsigned char, kFixedBytes + kExtraBytes> start{};
  if (pread(fd, start.data(), start.size(), 0) != static_cast<ssize_t>(start.size())) {
    return std::nullopt;
  }
  const unsigned char* extra = &start[kFixedBytes];
  if (start[0] != 0x1f || start[1] != 0x8b || (start[3] & kFlagExtra) == 0 || extra[0] != 'S' || extra[1] != 'V' ||
      extra[2] != kFieldBytes || extra[3] != 0) {
    return std::nullopt;
  }
  return FileId{.device = GetNumber(extra + 4),
                .inode = GetNumber(extra + 12),
                .born_ns = static_cast<int64_t>(GetNumber(extra + 20))};
}

struct GzipReader::State {
  UniqueFd fd;
  z_stream stream{};
  std::array<unsigned char, kBlockBytes> in{};
  off_t at = 0;
  bool between_members = true;  // where the file may end
  bool damaged = false;
};

absl::StatusOr<std::unique_ptr<GzipReader>> GzipReader::Open(UniqueFd fd, const std::string& name) {
  auto state = std::make_unique<State>();
  state->fd = std::move(fd);
  if (inflateInit2(&state->stream, kGzipWindow) != Z_OK) {
    return absl::ResourceExhaustedError(fmt::format("log file {}: no memory to decompress", name));
  }
  return std::unique_ptr<GzipReader>(new GzipReader(std::move(state), name));
}

GzipReader::GzipReader(std::unique_ptr<State> state, std::string name)
    : state_(std::move(state)), name_(std::move(name)) {}

GzipReader::~GzipReader() { inflateEnd(&state_->stream); }

absl::Status GzipReader::Damaged(std::string_view how) {
  state_->damaged = true;
  return absl::DataLossError(fmt::format("log file {}: {}", name_, how));
}

absl::StatusOr<std::string> GzipReader::Read(size_t max) {
  if (state_->damaged) {
    return std::string();
  }
  z_stream& stream = state_->stream;
  std::string out(std::min(max, kBlockBytes), '\0');
  stream.next_out = reinterpret_cast<unsigned char*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  while (stream.avail_out == out.size() && !out.empty()) {
    if (stream.avail_in == 0) {
      const ssize_t got = pread(state_->fd.get(), state_->in.data(), state_->in.size(), state_->at);
      if (got < 0) {
        return ErrnoToStatus(errno, fmt::format("log file {}", name_));
      }
      if (got == 0) {
        if (state_->between_members) {
          return std::string();
        }
        return Damaged("ends within its compressed data");
      }
      state_->at += got;
      stream.next_in = state_->in.data();
      stream.avail_in = static_cast<uInt>(got);
    }
    state_->between_members = false;
    const int result = inflate(&stream, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      state_->between_members = true;  // gzip files may be joined: another may follow
      inflateReset(&stream);
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return Damaged("damaged compressed data");
    }
  }
  out.resize(out.size() - stream.avail_out);
  return out;
}

}  // namespace supervisor
