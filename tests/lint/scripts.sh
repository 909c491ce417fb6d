#!/usr/bin/env bash
# The project's scripts: shellcheck for the shell's, pyflakes for Python's. Scripts that can be called are executable.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

mapfile -d '' -t shell < <(find packaging tests .ci -type f \( -name '*.sh' -o -path .ci/run \) -print0 | sort -z)
mapfile -d '' -t python < <(find config packaging tests -type f -name '*.py' -print0 | sort -z)
failed=0
shellcheck -x "${shell[@]}" || failed=1
# A package's __init__.py imports what others import from it.
if pyflakes3 "${python[@]}" | grep -v '/__init__\.py:.* imported but unused$'; then
    failed=1
fi
for file in "${shell[@]}" "${python[@]}"; do
    first=$(head -c 2 "$file")
    if [ "$first" = '#!' ] && [ ! -x "$file" ]; then
        echo "$file: begins with #! but is not executable: chmod +x $file"
        failed=1
    fi
done
echo "scripts: ${#shell[@]} of the shell's, ${#python[@]} of Python's"
exit "$failed"
