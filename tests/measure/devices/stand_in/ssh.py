"""A stand-in for ssh and scp whose far machine is this one.

It really runs the commands, and the far machine says that it is fake. The environment sets its
state: FAKE_SSH=down cannot be reached, FAKE_SSH=N breaks the connection at the N-th command.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run a command of the far machine, or copy files to it."""
    state = os.environ.get("FAKE_SSH", "")
    if state == "down":
        print("ssh: connect to host pi port 22: No route to host", file=sys.stderr)
        return 255
    if state:
        count = Path(os.environ["FAKE_SSH_COUNT"])
        calls = int(count.read_text()) if count.exists() else 0
        count.write_text(str(calls + 1))
        if calls >= int(state):
            print("client_loop: send disconnect: Broken pipe", file=sys.stderr)
            return 255
    words = [word for word in arguments if word != "-q"]
    while words[0] == "-o":
        words = words[2:]
    if words[0] == "pi":
        environment = {**os.environ, "TFPRUNE_FAKE_DEVICE": "1"}
        return subprocess.run(["sh", "-c", words[1]], env=environment).returncode
    *sources, target = words
    for source in sources:
        shutil.copy(source, target.removeprefix("pi:"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
