"""``promring import``: from a ``prometheus.yml`` that exists to the three files of a sharded fleet.

The way of a configuration: ``source`` (bytes to nodes that know where they stand) → ``configuration`` (jobs, sections,
included files) → ``verdicts`` (what becomes of each job, and ``findings``) → ``convert`` (the texts) → ``output`` (files).
``programs`` asks real Prometheus programs, ``verify`` proves with them that nothing changed.

Promises: a job is carried as the bytes that it is written in; what had to be changed is changed in place, and every text
that is written is read again and compared, value by value, with what it must say. Same bytes in, same bytes out.
Does not promise: to understand every key. A key that is not known is carried, and named.
"""
