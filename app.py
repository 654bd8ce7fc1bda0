"""The page: `python app.py [--run SOURCE] [--data PATH] [--mcp]`.

Host and port by GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
"""

from __future__ import annotations

import os
import sys
import tempfile

# Before torch and gradio are imported: threads of the web server obey only the environment.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "200")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "100")
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="imder-", dir=os.environ.get("GRADIO_TEMP_DIR"))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "2")
os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "5")

import argparse
import atexit
import shutil

from imder.ui.api import check_mcp
from imder.ui.jobs import Jobs
from imder.ui.page import build
from imder.ui.serve import serve
from imder.ui.shelf import Shelf, bundled_models, named, open_public


def main() -> int:
    """Opens the models and data sets that were asked for and serves the page."""
    temporary = os.environ["GRADIO_TEMP_DIR"]
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    parser = argparse.ArgumentParser(description="IMDer Explorer, the page.")
    parser.add_argument("--run", metavar="SOURCE", help="a run folder or a Hub repository owner/name[@revision]")
    parser.add_argument("--data", metavar="PATH", help="a data set folder or owner/name (default: the bundled one)")
    parser.add_argument(
        "--mcp", action="store_true", default=os.environ.get("GRADIO_MCP_SERVER", "").lower() in ("1", "true"),
        help="serve the public functions as MCP tools too (also by GRADIO_MCP_SERVER=true)",
    )  # fmt: skip
    args = parser.parse_args()
    jobs = Jobs()
    try:
        if args.mcp:
            check_mcp()
        shelf = Shelf(named(args.run, bundled_models()), named(args.data, {"bundled": "bundled"}), visitors=open_public)
        serve(build(shelf, jobs), jobs, temporary, args.mcp)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
