#!/usr/bin/env python3
"""Demo service "pharma": a pharmacy's inventory. What runs low becomes a task of architect-prod's, when it is there.

    GET  /inventory                all items
    GET  /inventory/low            those at or below their reorder level
    POST /inventory/<sku>/take     {"quantity": N}: 409 when there is not so much
    POST /inventory/<sku>/add      {"quantity": N}

The quantities live in memory: a restart begins with a full store.
"""

import json
import sys
import urllib.request

from http_service import HttpError, HttpService, argument_parser

STOCK = [("aspirin-500", "Aspirin 500 mg", 120, 20), ("ibuprofen-400", "Ibuprofen 400 mg", 80, 20),
         ("plasters", "Plasters", 45, 10), ("saline", "Saline 0.9 %", 12, 15)]
REORDER_TIMEOUT_S = 2


class Inventory:
    def __init__(self, service, tasks_url):
        self._service = service
        self._tasks_url = tasks_url
        self._items = {sku: {"sku": sku, "name": name, "quantity": quantity, "reorder_level": level}
                       for sku, name, quantity, level in STOCK}

    def all(self, _):
        return {"items": list(self._items.values())}

    def low(self, _):
        return {"items": [item for item in self._items.values() if item["quantity"] <= item["reorder_level"]]}

    def take(self, request):
        item, quantity = self._item_and_quantity(request)
        if quantity > item["quantity"]:
            raise HttpError(409, f'only {item["quantity"]} of {item["sku"]} left')
        was_low = item["quantity"] <= item["reorder_level"]
        item["quantity"] -= quantity
        if item["quantity"] <= item["reorder_level"] and not was_low:
            self._reorder(item)
        return item

    def add(self, request):
        item, quantity = self._item_and_quantity(request)
        item["quantity"] += quantity
        return item

    def _item_and_quantity(self, request):
        sku = request.parts["sku"]
        if sku not in self._items:
            raise HttpError(404, f"no such item: {sku}")
        quantity = request.field("quantity", int, "a whole number above 0")
        if quantity <= 0:
            raise HttpError(400, '"quantity" must be above 0')
        return self._items[sku], quantity

    def _reorder(self, item):
        if not self._tasks_url:
            return
        task = json.dumps({"title": f'Reorder {item["sku"]}'}).encode()
        request = urllib.request.Request(self._tasks_url, data=task, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=REORDER_TIMEOUT_S) as answer:
                self._service.log(f'{item["sku"]} runs low: task {json.load(answer)["id"]}')
        except (OSError, ValueError) as error:  # what is taken is taken, whether or not somebody notes it
            self._service.log(f'{item["sku"]} runs low, and no task could be made of it: {error}')


def main():
    service = HttpService("pharma", "a pharmacy's inventory")
    parser = argument_parser(service.purpose)
    parser.add_argument("--tasks-url", default="", help="where to post a task when an item runs low")
    arguments = parser.parse_args()
    inventory = Inventory(service, arguments.tasks_url)
    service.get("/inventory", inventory.all)
    service.get("/inventory/low", inventory.low)
    service.post("/inventory/<sku>/take", inventory.take)
    service.post("/inventory/<sku>/add", inventory.add)
    return service.main(arguments.port)


if __name__ == "__main__":
    sys.exit(main())
