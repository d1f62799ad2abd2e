#!/usr/bin/env python3
"""Makes the sample: the first entries of the WordNet data set and their vectors.

usage: make.py FOLDER [COUNT]

FOLDER holds base.jsonl.gz, base.f16bin and COPYRIGHT; COUNT is 5000 unless told. The order of the data set is random,
so its first entries are a fair sample of the whole. Needs nothing but Python; the same input gives the same bytes.
"""

import gzip
import itertools
import pathlib
import shutil
import struct
import sys

HEADER = struct.Struct("<II")
HALF_BYTES = 2


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    source = pathlib.Path(sys.argv[1])
    wanted = int(sys.argv[2]) if len(sys.argv) == 3 else 5000
    target = pathlib.Path(__file__).resolve().parent

    with gzip.open(source / "base.jsonl.gz", "rb") as entries:
        lines = list(itertools.islice(entries, wanted))
    with open(source / "base.f16bin", "rb") as vectors:
        total, dimensions = HEADER.unpack(vectors.read(HEADER.size))
        if len(lines) != wanted or total < wanted:
            print(f"the data set has fewer than {wanted} entries", file=sys.stderr)
            return 1
        rows = vectors.read(wanted * dimensions * HALF_BYTES)

    # No name and no time in the gzip header: the file depends on its content alone.
    with open(target / "wordnet.jsonl.gz", "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.writelines(lines)
    (target / "wordnet.f16bin").write_bytes(HEADER.pack(wanted, dimensions) + rows)
    shutil.copyfile(source / "COPYRIGHT", target / "COPYRIGHT")
    return 0


if __name__ == "__main__":
    sys.exit(main())
