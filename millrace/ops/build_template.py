"""Build a template of a pipeline, whose jobs need no launcher of ours: gcloud, the REST API, a scheduler launch it.

--classic writes the pipeline's graph to gs://…, and what its parameters are to gs://…_metadata. --flex writes a spec,
which names an image that runs the pipeline (worker.Dockerfile).
"""

import click

from millrace.errors import SettingError
from millrace.ops import arguments
from millrace.tasks import session


@click.command("build-template", cls=arguments.Command, help=__doc__)
@click.argument("name")
@click.option("--classic", metavar="gs://…", help="where to write a classic template")
@click.option("--flex", metavar="gs://…", help="where to write a flex template's spec")
@click.option("--image", help="with --flex: the image")
def command(name: str, classic: str | None, flex: str | None, image: str | None) -> None:
    """Write a template, and say how it is launched."""
    from millrace.runners.dataflow import building, jobs

    if bool(classic) == bool(flex):
        raise SettingError(f"say what to build of {name}: --classic gs://… or --flex gs://…, one of them")
    if flex and not image:
        raise SettingError(f"--flex {flex} needs --image, which runs {name} (worker.Dockerfile makes it)")
    if image and classic:
        raise SettingError(f"--image {image} is for --flex; a classic template's jobs need none")
    google = session.current().google
    uri = classic or flex or ""
    if not uri.startswith("gs://") or uri.endswith("/"):
        raise SettingError(f"--{'classic' if classic else 'flex'} {uri}: a template is an object, gs://BUCKET/NAME")
    if classic:
        building.build_classic(google, name, uri)
    else:
        building.build_flex(google, name, uri, image or "")
    needed = [each["name"] for each in building.described(name)["parameters"] if not each.get("isOptional")]
    _, region = jobs.place(google)
    job = name.rpartition(".")[2].replace("_", "-")
    how = (
        f"run {job} --gcs-location={uri}" if classic else f"flex-template run {job} --template-file-gcs-location={uri}"
    )
    print(f"{uri} is written; for example")
    print(f"gcloud dataflow {'jobs ' if classic else ''}{how} --region={region} \\")
    print(f"    --parameters='^;^{';'.join(f'{each}=…' for each in needed)}'")
