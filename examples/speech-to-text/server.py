#!/usr/bin/env python3
"""Offline speech recognition as a function: POST /invoke with a WAV file, get its words as JSON.

Environment:
  FC_CUSTOM_LISTEN_PORT  port to listen on, default 9000
  GRAMMAR                optional JSGF grammar; without one the general US English language model is used
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL_RATE_HZ = 16000
MAX_BODY_BYTES = 32 * 1024 * 1024


class BadAudio(Exception):
    """The caller's bytes cannot be understood as audio; the message is for the caller."""


def run(command, data=None):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


def tool_error(result):
    """The last line a tool wrote, without its own name in front."""
    lines = [line for line in result.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].split(": ", 1)[-1].strip() if lines else f"exit code {result.returncode}"


def to_model_rate(wav, folder):
    """Any rate, width and channel count in, what the acoustic model was trained on out."""
    target = os.path.join(folder, "audio.wav")
    # Dither is noise from a random seed: without it the same bytes always give the same answer.
    result = run(["sox", "-D", "-t", "wav", "-", "-b", "16", "-c", "1", "-r", str(MODEL_RATE_HZ), target], wav)
    if result.returncode != 0:
        raise BadAudio(f"the body is not a WAV file that can be read: {tool_error(result)}")
    length = run(["soxi", "-s", target])
    samples = int(length.stdout or 0)
    if samples == 0:
        raise BadAudio("the WAV file holds no samples")
    return target, samples / MODEL_RATE_HZ


def decode(audio, grammar_file):
    command = ["pocketsphinx_continuous", "-infile", audio]
    if grammar_file:
        command += ["-jsgf", grammar_file]
    result = run(command)
    if result.returncode != 0:
        errors = [line for line in result.stderr.decode("utf-8", "replace").splitlines() if "ERROR" in line or "FATAL" in line]
        raise RuntimeError(errors[0] if errors else f"pocketsphinx ended with {result.returncode}")
    # One line for each stretch of speech between pauses.
    return " ".join(result.stdout.decode("utf-8", "replace").split())


def transcribe(wav, grammar_file):
    if not wav:
        raise BadAudio("the body is empty; send the bytes of a WAV file")
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        audio, seconds = to_model_rate(wav, folder)
        resampled = time.monotonic()
        transcript = decode(audio, grammar_file)
        done = time.monotonic()
    return {
        "transcript": transcript,
        "audioSeconds": round(seconds, 3),
        "resampleSeconds": round(resampled - started, 3),
        "decodeSeconds": round(done - resampled, 3),
        "bytes": len(wav),
        "grammar": grammar_file is not None,
        "instance": os.environ.get("FC_INSTANCE_ID", ""),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A reply is one small write; waiting for more to send with it would only delay it.
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    grammar_file = None

    def do_GET(self):
        if self.path == "/ready":
            self.answer(200, {"ready": True})
        else:
            self.answer(404, {"errorMessage": f"no such path: {self.path}"})

    def do_POST(self):
        if self.path != "/invoke":
            self.close_connection = True  # The body was not read.
            self.answer(404, {"errorMessage": f"no such path: {self.path}"})
            return
        request = self.headers.get("x-fc-request-id", "-")
        print(f"FC Invoke Start RequestId: {request}", flush=True)
        try:
            result = transcribe(self.body(), self.grammar_file)
            print(f"{result['bytes']} bytes, {result['audioSeconds']} s of audio, decoded in "
                  f"{result['decodeSeconds']} s: {result['transcript']!r}", flush=True)
            self.answer(200, result, fc_status="200")
        except BadAudio as error:
            print(f"bad audio: {error}", flush=True)
            self.answer(404, {"errorType": "BadAudio", "errorMessage": str(error)}, fc_status="404")
        except Exception as error:  # One bad request must not end the server.
            print(f"failed: {error}", file=sys.stderr, flush=True)
            self.answer(500, {"errorType": type(error).__name__, "errorMessage": str(error)}, fc_status="404")
        finally:
            print(f"FC Invoke End RequestId: {request}", flush=True)

    def body(self):
        text = self.headers.get("content-length")
        if text is None or not text.isdigit() or int(text) > MAX_BODY_BYTES:
            self.close_connection = True
            raise BadAudio(f"a Content-Length of 0 to {MAX_BODY_BYTES} bytes is needed")
        return self.rfile.read(int(text))

    def answer(self, status, document, fc_status=None):
        data = json.dumps(document).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if fc_status:
            self.send_header("x-fc-status", fc_status)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Requests are logged above, with what they were about; health checks are not worth a line."""


def prepare_grammar(folder):
    """Checks the grammar before the first request, so that a bad one is told at the start and not by each task."""
    grammar_file = None
    if os.environ.get("GRAMMAR", "").strip():
        grammar_file = os.path.join(folder, "grammar.jsgf")
        with open(grammar_file, "w", encoding="utf-8") as out:
            out.write(os.environ["GRAMMAR"].strip() + "\n")
    silence = os.path.join(folder, "silence.wav")
    run(["sox", "-n", "-r", str(MODEL_RATE_HZ), "-b", "16", "-c", "1", silence, "trim", "0", "0.2"])
    decode(silence, grammar_file)
    return grammar_file


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ.get("FC_CUSTOM_LISTEN_PORT") or 9000)
    with tempfile.TemporaryDirectory() as folder:
        try:
            Handler.grammar_file = prepare_grammar(folder)
        except RuntimeError as error:
            sys.exit(f"speech-to-text cannot start: {error}")
        server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
        server.daemon_threads = True
        print(f"speech-to-text listens on port {port}, {'with a grammar' if Handler.grammar_file else 'without a grammar'}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
