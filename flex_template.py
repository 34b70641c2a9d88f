"""What runs in a flex template's image when a job is launched: a pipeline with the parameters of the launch.

MILLRACE_TEMPLATE names the pipeline's module, pipelines.posts.window unless it is set. In the image, which
worker.Dockerfile makes, the workers have the code already. Elsewhere this program ships it, as where
`bin/local-cloud --image IMAGE=flex_template.py` launches it.
"""

import os
import runpy
import sys
import tempfile


def main() -> None:
    """Run the pipeline's module as if it were this program."""
    module = os.environ.get("MILLRACE_TEMPLATE", "pipelines.posts.window")
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        try:
            from millrace.runners import worker_package
        except ModuleNotFoundError:  # in the image
            pass
        else:
            sys.argv.append(f"--extra_package={worker_package.write(folder, module)}")
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
