#!/bin/sh
# A batch script: the checksum of every file of a directory that all guests have, each taken once, by whichever guest has least to do.
#
#     client/examples/checksums.sh ROOTFS DIRECTORY [RUN-DIRECTORY]
#
# Run again with the same RUN-DIRECTORY, it goes on where it was killed. Checksums go to stdout; the status is that of `corral batch`:
# 0, or how many files failed.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 ROOTFS DIRECTORY [RUN-DIRECTORY]" >&2; exit 255; }
rootfs=$1 directory=$2 run=${3:-checksums-run}
status=0

if [ -e "$run/joblog.jsonl" ]; then
    corral batch resume "$run" || status=$?
else
    (cd "$directory" && find . -type f | sort) |
        corral batch run --run-dir "$run" --on any --window 8 --retries 2 --target-timeout 5m \
            --rootfs "$rootfs" -v "$directory:/data:ro" -- sh -c 'cd /data && exec sha256sum "$1"' checksum '{}' || status=$?
fi
[ "$status" -ne 255 ] || exit 255 # not at its end: run this again

# results/STEP/N.out, in the order of the files
ls "$run/results/run" | grep '\.out$' | sort -n | while read -r name; do cat "$run/results/run/$name"; done
exit "$status"
