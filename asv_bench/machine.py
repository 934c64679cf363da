"""Describe this machine to asv, under a name made of its processor and cores, and print that name.

asv's own name for a machine is its host's, which says nothing to others.
"""

import platform
import re

from asv.machine import Machine, MachineCollection

from rnn_gpu.bench.machine import describe


def main() -> str:
    found = describe()
    cores = found["usable_cores"]
    words = f"{found['processor']} {cores} core{'s' if cores != 1 else ''}"
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    described = {
        "machine": name,
        "cpu": found["processor"],
        "num_cpu": str(cores),
        "os": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
    }
    MachineCollection.save(name, Machine.get_defaults() | described)
    return name


if __name__ == "__main__":
    print(main())
