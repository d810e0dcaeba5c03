# The install section of README.md as an image. On NVIDIA GPUs: docker build --build-arg TARGET='.[gpu]' -t lightkeras .
# Train in a container that keeps its runs: docker run -v "$PWD/runs:/work/runs" lightkeras fit text_generation --preset sample
FROM python:3.12-slim
ARG TARGET=.
WORKDIR /lightkeras
COPY . .
RUN python3 -m venv .venv && . .venv/bin/activate && pip install "$TARGET"
ENV PATH="/lightkeras/.venv/bin:$PATH"
WORKDIR /work
ENTRYPOINT ["lightkeras"]
