#!/usr/bin/env bash
# Every C++ source and header is as clang-format writes it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

mapfile -d '' -t files < <(find common daemon ctl tests -type f \( -name '*.cc' -o -name '*.h' \) -print0 | sort -z)
[ "${#files[@]}" -gt 0 ] || {
    echo "no sources found below $PWD" >&2
    exit 1
}
if ! clang-format --dry-run -Werror "${files[@]}"; then
    echo "To mend it: clang-format -i FILE" >&2
    exit 1
fi
echo "clang-format: ${#files[@]} files"
