"""The page: what ``/api/v1`` says, for people. The controller makes it, so that it works without script; a
script keeps it new.

``endpoint`` answers requests: it asks the API's own views, and gives what they say to the templates in ``files``.
``scrapers``, ``ring``, ``charts``, ``explain`` make of it what a template cannot: rows that were asked for, and the geometry
of pictures. Everything from outside is escaped by the template engine, and the page may load nothing but its own files.
"""
