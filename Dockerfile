# promring in a container: `docker build -t promring .`; docs/install.md says how to run it.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/promring
COPY requirements.lock ./
RUN /opt/promring/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/promring/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/promring/bin/python -m compileall -q /opt/promring/lib \
    && mkdir /state

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="promring" \
      org.opencontainers.image.description="Keeps every target of a Prometheus fleet scraped" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/promring /opt/promring
COPY --from=build --chown=65532:65532 --chmod=0700 /state /var/lib/promring
COPY --chmod=0644 deploy/healthy.py /usr/local/lib/promring/healthy.py
ENV PATH=/opt/promring/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PROMRING_CONFIG_FILE=/etc/promring/promring.yml \
    PROMRING_STATE_DIR=/var/lib/promring \
    PROMRING_WEB_LISTEN_ADDRESS=:9600 \
    PROMRING_WEB_TOKEN_FILE=/etc/promring/token
USER 65532:65532
WORKDIR /etc/promring
EXPOSE 9600
VOLUME /var/lib/promring
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "-I", "/usr/local/lib/promring/healthy.py"]
ENTRYPOINT ["promring"]
CMD ["run"]
