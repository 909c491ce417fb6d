#!/usr/bin/env python3
"""Demo service "reading-app": a shelf of books and the page where you stopped.

    GET  /books                    all, or those of ?author=
    GET  /books/<id>               one
    POST /books/<id>/progress      {"page": N}: remembers where you stopped

The pages live in memory: a restart begins at the first page.
"""

import sys

from http_service import HttpError, HttpService, argument_parser

BOOKS = [
    ("moby-dick", "Moby-Dick", "Herman Melville", 635),
    ("middlemarch", "Middlemarch", "George Eliot", 880),
    ("silas-marner", "Silas Marner", "George Eliot", 262),
    ("emma", "Emma", "Jane Austen", 474),
    ("frankenstein", "Frankenstein", "Mary Shelley", 280),
]


class Shelf:
    def __init__(self):
        self._books = {key: {"id": key, "title": title, "author": author, "pages": pages, "page": 1}
                       for key, title, author, pages in BOOKS}

    def all(self, request):
        author = request.query.get("author", "").lower()
        return {"books": [book for book in self._books.values() if author in book["author"].lower()]}

    def one(self, request):
        key = request.parts["id"]
        if key not in self._books:
            raise HttpError(404, f"no such book: {key}")
        return self._books[key]

    def progress(self, request):
        book = self.one(request)
        page = request.field("page", int, "a page number")
        if not 1 <= page <= book["pages"]:
            raise HttpError(400, f'page {page} is not in the book (expected 1 to {book["pages"]})')
        book["page"] = page
        return book


def main():
    service = HttpService("reading-app", "a shelf of books and the page where you stopped")
    shelf = Shelf()
    service.get("/books", shelf.all)
    service.get("/books/<id>", shelf.one)
    service.post("/books/<id>/progress", shelf.progress)
    return service.main(argument_parser(service.purpose).parse_args().port)


if __name__ == "__main__":
    sys.exit(main())
