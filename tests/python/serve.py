"""Runs the scripts of this folder, one after the other, in one process: most of their time is that of their imports.

Reads {"arguments": [SCRIPT, …], "endpoint": …} from each line of standard input, and answers in a line with
{"out": …, "error": null or the traceback}.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

folder = Path(__file__).parent
answers = sys.stdout

for line in sys.stdin:
    request = json.loads(line)
    script, *rest = request["arguments"]
    os.environ["SANDBOX_ENDPOINT"] = request["endpoint"]
    sys.argv = [script, *rest]
    out, error = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_path(str(folder / script), run_name="__main__")
        except SystemExit as end:
            error = None if end.code in (None, 0) else str(end.code)
        except Exception:
            error = traceback.format_exc()
    answers.write(json.dumps({"out": out.getvalue(), "error": error}) + "\n")
    answers.flush()
