#!/bin/bash
# Publishes the programs that run inside containers as static binaries: OUTDIR/relay and OUTDIR/echo, or only the one named.
#
#   deploy/build/native.sh OUTDIR [relay|echo]
#
# Nothing is built again while its sources, the build settings, the SDK and the compiler are unchanged.
set -euo pipefail

only=${2:-}
case "$#$only" in
    1 | 2relay | 2echo) ;;
    *) echo "usage: $0 OUTDIR [relay|echo]" >&2; exit 2 ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$root"

missing=()
need() { # what, package, command...
    local what=$1 package=$2
    shift 2
    "$@" >/dev/null 2>&1 || missing+=("$what (Debian package: $package)")
}
links() { # library flag
    echo 'int main(void) { return 0; }' | gcc -static -x c - -x none "$1" -o /dev/null
}
need "dotnet, the .NET 10 SDK" "none, see https://dot.net" dotnet --version
need "gcc" gcc gcc --version
need "the linker ld.bfd" binutils ld.bfd --version
if command -v gcc >/dev/null 2>&1; then
    need "the static C library" libc6-dev links -lc
    need "the static libstdc++" g++ links -lstdc++
    need "the static zlib" zlib1g-dev links -lz
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "Static binaries cannot be built here. Missing:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi

inputs_hash() { # project folder
    {
        dotnet --version
        gcc -dumpfullversion
        find "$1" deploy/build Directory.Build.props Directory.Packages.props global.json \
            -type d \( -name bin -o -name obj \) -prune -o -type f ! -name '*.md' -print | LC_ALL=C sort | xargs -d '\n' sha256sum
    } | sha256sum | cut -d ' ' -f 1
}

publish() { # name, project folder, assembly
    local name=$1 project=$2 assembly=$3 hash work log
    hash=$(inputs_hash "$project")
    if [ -x "$out/$name" ] && [ "$(cat "$out/.$name.inputs" 2>/dev/null)" = "$hash" ]; then
        echo "$name: unchanged"
        return
    fi
    work="$out/.$name.build"
    log="$out/$name.log"
    # Analysis belongs to the ordinary build. An artifacts folder of its own keeps this build and ordinary ones from
    # rewriting each other's restore.
    if ! dotnet publish "$project" -c Release -p:StaticAot=true -p:RunAnalyzers=false \
        --artifacts-path "$work" -o "$work/publish" --nologo >"$log" 2>&1; then
        cat "$log" >&2
        echo "$name: the build failed, its output stands above and in $log" >&2
        exit 1
    fi
    # A running container may hold the old binary open, so the name is moved, never the bytes rewritten.
    cp "$work/publish/$assembly" "$out/$name.new"
    mv -f "$out/$name.new" "$out/$name"
    echo "$hash" >"$out/.$name.inputs"
    rm -rf "$work" "$log"
    echo "$name: built, $(stat -c %s "$out/$name") bytes"
}

# One build of a set of binaries at a time; a second caller then finds them unchanged.
exec 9>"$out/.lock"
flock 9

[ "$only" = relay ] || publish echo examples/echo GpuTasks.Echo
[ "$only" = echo ] || publish relay src/Relay GpuTasks.Relay
