"""``flyte.remote``: find runs, actions and conditions again, by name. Runs in: the process that started them.

Runs of earlier kernels are found as well ("k41.r7"). What a Flyte server keeps (deployed tasks, apps, secrets) is not here:
those names import, and say so when used. Conditions can also be found from inside a task, for the run that it belongs to.
"""

from __future__ import annotations

from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.runs.run import Run
from flyte_nb.remote.action import Action
from flyte_nb.remote.condition import Condition
from flyte_nb.unsupported import RemoteApp as App
from flyte_nb.unsupported import RemoteArtifact as Artifact
from flyte_nb.unsupported import RemoteProject as Project
from flyte_nb.unsupported import RemoteSecret as Secret
from flyte_nb.unsupported import RemoteTask as Task
from flyte_nb.unsupported import RemoteTrigger as Trigger
from flyte_nb.unsupported import RemoteUser as User
from flyte_nb.unsupported import upload_dir, upload_file

RunDetails = Run
ActionDetails = Action

__all__ = [
    "Action", "ActionDetails", "ActionOutputs", "App", "Artifact", "Condition", "Project", "Run", "RunDetails", "Secret",
    "Task", "Trigger", "User", "upload_dir", "upload_file",
]  # fmt: skip
