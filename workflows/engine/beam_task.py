"""BeamTask: a stage that wraps one Beam pipeline, named by its module; Beam is imported only when it really runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipelines.errors import ManifestError
from workflows.engine import clients, runners, settings
from workflows.engine.ledger import Entry
from workflows.engine.manifests import FileEntry
from workflows.engine.settings import millrace
from workflows.engine.stage import Outcome, Stage


class BeamTask(Stage):
    """Say requires(), output(), and which pipeline with which options."""

    #: The module that has `build(pipeline, options)`.
    pipeline: ClassVar[str]
    #: Keys of the section that the pipeline takes as options of the same name.
    passes: ClassVar[Sequence[str]] = ()
    #: Whether there is nothing to compute where there is nothing to read: then no pipeline runs.
    empty_from_empty: ClassVar[bool] = True

    def complete(self) -> bool:
        """As Stage.complete; what is not complete will run, in a process that can share what this one imports."""
        done = super().complete()
        if not done and settings.workers() > 1:
            runners.preload(self.pipeline)
        return done

    def options(self) -> Mapping[str, Any]:
        """Further options of the pipeline: name → value."""
        return {}

    def execute(self, attempt: Entry) -> Outcome:
        """Runs the pipeline over the files of the inputs' partitions; its result file says what it wrote."""
        files = self.input_files()
        options = {key: str(value) for key, value in {**self._common(), **self.options()}.items()}
        described = Outcome([], {}, {}, self.pipeline, options, millrace().runner)
        if self.empty_from_empty and sum(file.rows for file in files) == 0 and self.required():
            return described
        storage = clients.storage()
        output = storage.uri(self._folder("{dataset}", attempt))
        arguments = {"input": json.dumps([storage.uri(file.path) for file in files]), "output": output, **options}
        result = runners.run(self.pipeline, arguments, millrace().runner)
        first = self._folder(self.datasets()[0].name, attempt)
        written = storage.read(f"{first}/{runners.RESULT}")
        if written is None:
            raise ManifestError(f"{self.pipeline} ended without its result in {storage.uri(first)}")
        value = json.loads(written.data)
        root = storage.uri("")
        entries = [FileEntry(**{**file, "path": file["path"].removeprefix(root)}) for file in value["files"]]
        return Outcome(
            entries, value["counters"], value["schemas"], self.pipeline, options, millrace().runner, result.job_id
        )

    def input_files(self) -> list[FileEntry]:
        """The files to read: those of the inputs' own partitions, in the order of requires()."""
        return [
            file
            for dataset, (manifest, _) in self.inputs()
            for file in manifest.files
            if file.path.startswith(f"{dataset.partition}/")
        ]

    def _common(self) -> dict[str, Any]:
        section = self.section()
        date = getattr(self, "date", None)
        passed = {key: getattr(section, key) for key in self.passes}
        return {**({"date": date} if date else {}), **passed}

    def _folder(self, dataset: str, attempt: Entry) -> str:
        _, _, day = self.datasets()[0].partition.partition(f"{self.datasets()[0].name}/")
        return f"{dataset}/{day}/{attempt.attempt}"
