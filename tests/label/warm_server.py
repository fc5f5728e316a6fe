"""Servers by the verb `label`, each forked from this process, which has imported everything: up in a second, not ten.

Reads the verb's words, a JSON list in each line, and answers with the process id of the server that it starts.
"""

import importlib
import json
import os
import signal
import sys
from contextlib import redirect_stdout

from cmunet_monai.label.command import main, parse


def import_all(words):
    """MONAI Label takes its settings from the environment as it is imported; the server sets the same ones again."""
    root = parse(words).workspace
    os.environ |= {"MONAI_LABEL_APP_DIR": str(root / "app"), "MONAI_LABEL_STUDIES": str(root / "frames")}
    os.environ |= {"MONAI_LABEL_SESSIONS": "false", "MONAI_LABEL_TRACKING_ENABLED": "false"}
    with redirect_stdout(sys.stderr):
        importlib.import_module("monailabel.app")
    importlib.import_module("cmunet_monai.label.app")


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the servers
for line in sys.stdin:
    words = json.loads(line)[1:]
    import_all(words)
    number = os.fork()
    if number == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(2, 1)
        os._exit(main(words))
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
