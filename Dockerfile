# Builds the connector and puts it into a small image that has what the platform's pods need: sh, sleep, mv, eval,
# CA certificates, and a program that any user may run. Plain Dockerfile syntax: every builder takes it.

FROM rust:1.95-slim-bookworm AS builder

# aws-lc-sys compiles C with gcc; cmake and nasm are not needed.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /build
COPY . .
# Default features: the sandbox is not part of the image.
RUN cargo build --release --locked --bin destination-aws-datalake \
 && mv target/release/destination-aws-datalake /usr/local/bin/ \
 && destination-aws-datalake spec > /dev/null

FROM debian:bookworm-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir --mode=0777 /airbyte

COPY --from=builder /usr/local/bin/destination-aws-datalake /usr/local/bin/destination-aws-datalake
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/destination-aws-datalake/
RUN chmod 0755 /usr/local/bin/destination-aws-datalake

WORKDIR /airbyte
USER 1000:1000

# The platform runs `eval "$AIRBYTE_ENTRYPOINT write --config ... --catalog ..."` and does not look at ENTRYPOINT, which
# is for `docker run`.
ENV AIRBYTE_ENTRYPOINT="/usr/local/bin/destination-aws-datalake"
ENTRYPOINT ["/usr/local/bin/destination-aws-datalake"]

LABEL io.airbyte.version="0.1.0"
LABEL io.airbyte.name="airbyte/destination-aws-datalake"
