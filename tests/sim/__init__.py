"""A fleet in one event loop with fake time and a seeded schedule of faults; only the outermost adapters are fakes.

``faketime``  the loop, clocks, threads; processes that freeze and die
``jobs``      the services of a fleet, their sources; ``wanted`` how a fleet is configured, and who shall have what by it
``changes``   what a person changes of the configuration; ``nights`` many seeds, on all cores
``proof``     what the scrapers really did, beside what is said of it
``consul``    a fake Consul, with its ``catalogue``; ``scraper`` scrapers and sources; ``far`` a wire to a real receiver;
              ``world`` all of them, and what must always be true
``controller``  the real supervisor and agent as processes; ``fleet`` all of them, and what it must come to
``membership``  where the scrapers are listed: Consul, a file, DNS, Kubernetes' ``pods``, the configuration; ``list_exams``
``faults``    what befalls a fleet, several at a time; ``exams`` one thing at a time, and what exactly must come of it
``run``       one run; ``planted`` bugs that runs must find

``SIM_SEEDS=27`` or ``SIM_SEEDS=100-200`` runs these seeds, ``--long`` many; ``SIM_STRICT=1`` counts known weaknesses, too;
``SIM_MIXED=1`` lets half of the scrapers of every fleet with http_sd read files, not of every other fleet;
``SIM_MEMBERSHIP=dns`` (``file``, ``kubernetes``, ``probe``) has the scrapers of every fleet there, not of some from seed
10,000 on;
``SIM_TOLD=2000`` tells more of what happened before a run failed.
"""
