#!/usr/bin/env python3
"""Demo service "architect": tasks, what each waits for, and the order in which to do them.

    GET  /tasks                    all tasks
    GET  /tasks/<id>               one
    POST /tasks                    {"title": "...", "after": ["id", ...]}: adds one
    POST /tasks/<id>/done          marks one as done
    GET  /plan                     what is left, in an order that respects "after"

Tasks live in memory: a restart begins again with the seed.
"""

import re
import sys

from http_service import HttpError, HttpService, argument_parser

SEEDS = {
    "prod": [("survey", "Survey the site", []), ("foundation", "Pour the foundation", ["survey"]),
             ("walls", "Raise the walls", ["foundation"]), ("roof", "Put on the roof", ["walls"])],
    "qa": [("survey", "Survey the model", []), ("inspect", "Inspect the drawings", ["survey"]),
           ("approve", "Approve the drawings", ["inspect"])],
}


class Tasks:
    def __init__(self, seed):
        self._tasks = {key: {"id": key, "title": title, "after": after, "done": False} for key, title, after in seed}

    def all(self, _):
        return {"tasks": list(self._tasks.values())}

    def one(self, request):
        return self._find(request.parts["id"])

    def add(self, request):
        title = request.field("title", str, "a string").strip()
        after = request.body.get("after", [])
        if not title:
            raise HttpError(400, '"title" is empty')
        if not isinstance(after, list) or not all(isinstance(key, str) for key in after):
            raise HttpError(400, '"after" must be a list of task ids')
        for key in after:
            self._find(key)
        key = self._new_id(title)
        # A new task can only wait for older ones, so the graph never gets a cycle.
        self._tasks[key] = {"id": key, "title": title, "after": after, "done": False}
        return self._tasks[key]

    def done(self, request):
        task = self._find(request.parts["id"])
        waiting_for = [key for key in task["after"] if not self._tasks[key]["done"]]
        if waiting_for:
            raise HttpError(409, f'{task["id"]} waits for {", ".join(waiting_for)}')
        task["done"] = True
        return task

    def plan(self, _):
        left = [task for task in self._tasks.values() if not task["done"]]
        return {"next": [task["id"] for task in left if all(self._tasks[key]["done"] for key in task["after"])],
                "order": [task["id"] for task in left]}  # tasks are kept in an order that respects "after"

    def _find(self, key):
        if key not in self._tasks:
            raise HttpError(404, f"no such task: {key}")
        return self._tasks[key]

    def _new_id(self, title):
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or "task"
        key, number = stem, 2
        while key in self._tasks:
            key, number = f"{stem}-{number}", number + 1
        return key


def main():
    purpose = "tasks and the plan to do them"
    parser = argument_parser(purpose)
    parser.add_argument("--environment", choices=sorted(SEEDS), default="prod", help="which set of tasks to begin with")
    arguments = parser.parse_args()
    service = HttpService(f"architect-{arguments.environment}", purpose)
    tasks = Tasks(SEEDS[arguments.environment])
    service.get("/tasks", tasks.all)
    service.post("/tasks", tasks.add)
    service.get("/tasks/<id>", tasks.one)
    service.post("/tasks/<id>/done", tasks.done)
    service.get("/plan", tasks.plan)
    return service.main(arguments.port)


if __name__ == "__main__":
    sys.exit(main())
