"""The official OpenAI client, unmodified, against a running server.

    python client_test.py http://127.0.0.1:8080 [API-KEY]

Needs the package `openai`; the version this was written against is pinned in requirements.txt. Exits with 1 if anything fails.
"""

import sys
import time

import openai

FAILURES = []


def check(condition, what):
    print(("ok    " if condition else "FAILED"), what, flush=True)
    if not condition:
        FAILURES.append(what)


def chat(client, model):
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8, temperature=0)
    check(answer.object == "chat.completion" and answer.choices[0].message.role == "assistant", "chat")
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, "usage adds up")
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    check(text == answer.choices[0].message.content, "a stream says the same as a whole answer")
    check(chunks[-1].usage.completion_tokens == answer.usage.completion_tokens, "usage at the end of a stream")
    check([c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == [answer.choices[0].finish_reason],
          "one finish reason")


def choices_and_logprobs(client, model):
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "A word?"}], max_tokens=4, n=2, seed=7, logprobs=True, top_logprobs=3)
    check([choice.index for choice in answer.choices] == [0, 1], "n=2")
    entries = answer.choices[0].logprobs.content
    check(all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in entries), "logprobs")
    check("".join(entry.token for entry in entries).startswith(answer.choices[0].message.content[:1]), "their tokens are the text")
    again = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "A word?"}], max_tokens=4, n=2, seed=7)
    check([c.message.content for c in again.choices] == [c.message.content for c in answer.choices], "the same seed, the same answer")


def completions(client, model):
    answer = client.completions.create(model=model, prompt=["One, two,", "A, B,"], max_tokens=3, temperature=0, logprobs=1)
    check(len(answer.choices) == 2 and len(answer.choices[1].logprobs.tokens) == 3, "completions of two prompts")
    scored = client.completions.create(model=model, prompt="One, two, three", max_tokens=0, echo=True, logprobs=1)
    check(scored.choices[0].text == "One, two, three" and scored.choices[0].logprobs.token_logprobs[0] is None, "echo scores a prompt")
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(model=model, prompt="One, two,", max_tokens=3, temperature=0, stream=True)
                   if chunk.choices)
    check(text == answer.choices[0].text, "completions stream")


def embeddings(client, model):
    answer = client.embeddings.create(model=model, input=["a cat", "a cat", "physics"])
    first, second, third = (one.embedding for one in answer.data)
    check(abs(sum(x * x for x in first) - 1) < 1e-3, "embeddings have length 1")
    check(max(abs(a - b) for a, b in zip(first, second)) < 1e-5 and first != third, "the same text, the same embedding")
    plain = client.embeddings.create(model=model, input="a cat", encoding_format="float")
    check(max(abs(a - b) for a, b in zip(first, plain.data[0].embedding)) < 1e-5, "base64 and float agree")


def errors(client, model):
    def refused(kind, param, **arguments):
        try:
            client.chat.completions.create(**{"model": model, "messages": [{"role": "user", "content": "x"}], **arguments})
        except kind as error:
            check(error.param == param, f"{kind.__name__} names {param}")
        else:
            check(False, f"{kind.__name__} for {param}")

    refused(openai.NotFoundError, "model", model="no-such-model")
    refused(openai.BadRequestError, "temperature", temperature=5)
    refused(openai.BadRequestError, "messages", messages=[])
    refused(openai.BadRequestError, "input_tokens", messages=[{"role": "user", "content": "word " * 200_000}])


def abort(client, model):
    stream = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Count to a thousand."}], max_tokens=2000, stream=True)
    next(iter(stream))
    stream.close()
    for _ in range(200):
        load = client.get("/load", cast_to=object)
        if load["running"] == 0 and load["kv_blocks_live"] == 0:
            break
        time.sleep(0.1)
    check(load["running"] == 0 and load["kv_blocks_live"] == 0, "an aborted stream frees its blocks")


def main():
    base = sys.argv[1].rstrip("/")
    client = openai.OpenAI(base_url=base + "/v1", api_key=sys.argv[2] if len(sys.argv) > 2 else "none", max_retries=2, timeout=300)
    model = client.models.list().data[0].id
    check(client.models.retrieve(model).id == model, f"models: {model}")
    for part in (chat, choices_and_logprobs, completions, embeddings, errors, abort):
        part(client, model)
    print(f"{len(FAILURES)} failures")
    sys.exit(1 if FAILURES else 0)


main()
