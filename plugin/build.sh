#!/bin/sh
# Compiles the Slurm plugin and torc-step-exec and installs both in one directory. What `make install` and
# `torc slurm plugin build` run; settings come from the environment:
#
#   PREFIX      where torc-slurm's files for the site are (default /usr/local)
#   LIBDIR      the directory for both files (default PREFIX/lib/torc-slurm); its path is compiled in
#   TORC_STEP   the absolute path of torc-step (default PREFIX/bin/torc-step); torc-step= in plugstack.conf overrides it
#   DESTDIR     for packagers: put in front of LIBDIR for the files, not compiled in
#   SLURM_INCLUDE, CC, CPPFLAGS, CFLAGS, LDFLAGS
set -eu
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
: "${PREFIX:=/usr/local}"
: "${LIBDIR:=$PREFIX/lib/torc-slurm}" "${TORC_STEP:=$PREFIX/bin/torc-step}"
: "${CC:=cc}" "${CFLAGS:=-O2 -g}"
for path in "$LIBDIR" "$TORC_STEP"; do
    case $path in
    *[!A-Za-z0-9/._+-]* | [!/]*) echo "build.sh: $path: not an absolute path of letters, digits and /._+-" >&2; exit 2 ;;
    esac
done
target=${DESTDIR:-}$LIBDIR
mkdir -p "$target"
compile() {
    # shellcheck disable=SC2086  # flags are words
    "$CC" ${CPPFLAGS:-} $CFLAGS -std=gnu11 -Wall -Wextra -Wshadow -Wformat=2 \
        ${SLURM_INCLUDE:+-isystem "$SLURM_INCLUDE"} \
        -DTORC_STEP_EXEC="\"$LIBDIR/torc-step-exec\"" -DTORC_STEP="\"$TORC_STEP\"" "$@" ${LDFLAGS:-}
}
if [ "${1:-}" = --check ]; then # warnings as errors, gcc's static analyzer; installs nothing
    compile -Werror -fanalyzer -fPIC -c -o /dev/null "$here/spank_torc.c"
    compile -Werror -fanalyzer -c -o /dev/null "$here/torc_step_exec.c"
    exit
fi
trap 'rm -f "$target/.spank_torc.so.$$" "$target/.torc-step-exec.$$"' EXIT
compile -o "$target/.torc-step-exec.$$" "$here/torc_step_exec.c"
compile -fPIC -shared -o "$target/.spank_torc.so.$$" "$here/spank_torc.c"
chmod 755 "$target/.torc-step-exec.$$" "$target/.spank_torc.so.$$"
# by rename: a Slurm that has the old file loaded keeps it whole
mv "$target/.torc-step-exec.$$" "$target/torc-step-exec"
mv "$target/.spank_torc.so.$$" "$target/spank_torc.so"
