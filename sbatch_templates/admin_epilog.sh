#!/bin/sh
# For administrators: slurm.conf `Epilog=/etc/slurm/epilog.d/torc.sh`. It notes that a job ended on this node, so that its
# accounting can be collected later. It is for sites that cannot ask users to put a trap into their scripts.
#
# slurmd runs it as root on every node of a job, and a non-zero exit drains the node. So it runs no Slurm command, takes
# no lock, waits for nothing, writes one small file on this node's own disk, and always exits 0 (even with a full or
# read-only disk, a missing directory, an invalid job id). SchedMD advises against Slurm commands in an Epilog.
# It follows no user's link: it writes nothing into a directory that is not root's or that others can write to.
#
# Create the directory once per node, writable by root only:  install -d -m 755 /var/spool/torc-slurm
# Each note is <directory>/<job id>.<node> with one line: job id, user id, user name, node, Unix time of the end.
directory=/var/spool/torc-slurm

note() {
    case "${SLURM_JOB_ID:-}" in '' | *[!0-9]*) return ;; esac
    node=${SLURMD_NODENAME:-$(uname -n)}
    case "$node" in '' | *[!A-Za-z0-9._-]*) return ;; esac
    case "$(ls -ldn "$directory")" in d????-??-?*) ;; *) return ;; esac
    # shellcheck disable=SC3067  # not POSIX, but dash, bash and busybox have -O
    [ -O "$directory" ] || return
    new=$directory/.$SLURM_JOB_ID.$node.$$
    set -C
    if printf '%s %s %s %s %s\n' "$SLURM_JOB_ID" "${SLURM_JOB_UID:--}" "${SLURM_JOB_USER:--}" "$node" "$(date +%s)" >"$new"
    then
        mv -fT "$new" "$directory/$SLURM_JOB_ID.$node"
    else
        rm -f "$new"
    fi
}

(note) >/dev/null 2>&1 </dev/null
exit 0
