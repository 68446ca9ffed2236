"""The alerts of promring's own rules file that the process can judge by itself: the page and ``promring alerts`` show them
without a Prometheus.

``rules.json`` is made of ``deploy/prometheus/promring.rules.yml`` by ``scripts/make-alerts``. ``conditions`` has for each
alert what its expression says, in Python; ``readings`` the numbers of this process now, and how counters rose; ``judge``
waits as long as a rule's ``for``.

Not promised: what a Prometheus that watches promring says. It may have changed rules, and it alone can tell that a
controller or an agent does not answer. After a start every wait begins anew.
"""
