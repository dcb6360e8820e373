"""OpenAI's own client for Python, unmodified, against a running server.

    openai_client.py URL KEY LIMITED-KEY

LIMITED-KEY may have one request under way at a time. Ends with 1 if anything fails.
"""

import asyncio
import sys
import threading
import time

import openai

FAILURES = []
QUESTION = [{"role": "user", "content": "Say hello."}]


def check(condition, what):
    print(("ok    " if condition else "FAILED"), what, flush=True)
    if not condition:
        FAILURES.append(what)


def chat(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8, temperature=0)
    check(answer.object == "chat.completion" and answer.choices[0].message.role == "assistant", "chat")
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, "usage adds up")
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    check(text == answer.choices[0].message.content, "a stream says the same as a whole answer")
    check(chunks[-1].usage.completion_tokens == answer.usage.completion_tokens, "usage at the end of a stream")
    check([c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == [answer.choices[0].finish_reason],
          "one finish reason")
    with client.chat.completions.stream(model=model, messages=QUESTION, max_tokens=8, temperature=0) as helper:
        helper.until_done()
    check(helper.current_completion_snapshot.choices[0].message.content == text, "the client's stream helper")
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=QUESTION, max_tokens=1, extra_headers={"X-Request-Id": "mine-1"}, extra_body={"top_k": 1})
    check(raw.headers["x-request-id"] == "mine-1" and raw.parse().id == "chatcmpl-mine-1", "request ids, and fields beyond OpenAI's")


def choices_and_logprobs(client, model):
    question = [{"role": "user", "content": "A word?"}]
    answer = client.chat.completions.create(model=model, messages=question, max_tokens=4, n=2, seed=7, logprobs=True, top_logprobs=3)
    check([choice.index for choice in answer.choices] == [0, 1], "n=2")
    entries = answer.choices[0].logprobs.content
    check(all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in entries), "logprobs")
    check("".join(entry.token for entry in entries).startswith(answer.choices[0].message.content), "their tokens are the text")
    again = client.chat.completions.create(model=model, messages=question, max_tokens=4, n=2, seed=7)
    check([c.message.content for c in again.choices] == [c.message.content for c in answer.choices], "the same seed, the same answer")


def completions(client, model):
    answer = client.completions.create(model=model, prompt=["One, two,", "A, B,"], max_tokens=3, temperature=0, logprobs=1)
    check(len(answer.choices) == 2 and len(answer.choices[1].logprobs.tokens) == 3, "completions of two prompts")
    scored = client.completions.create(model=model, prompt="One, two, three", max_tokens=0, echo=True, logprobs=1)
    check(scored.choices[0].text == "One, two, three" and scored.choices[0].logprobs.token_logprobs[0] is None, "echo scores a prompt")
    stream = client.completions.create(model=model, prompt="One, two,", max_tokens=3, temperature=0, stream=True)
    text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    check(text == answer.choices[0].text, "completions stream")
    ids = client.completions.create(model=model, prompt=[1, 2, 3], max_tokens=1, extra_body={"return_token_ids": True})
    check(ids.choices[0].prompt_token_ids == [1, 2, 3] and len(ids.choices[0].token_ids) == 1, "token ids in and out")


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
    refused(openai.BadRequestError, "input_tokens", messages=[{"role": "user", "content": "word " * 20_000}])
    try:
        client.with_options(api_key="sk-unknown").models.list()
    except openai.AuthenticationError as error:
        check(error.status_code == 401, "an unknown key is an AuthenticationError")
    else:
        check(False, "an unknown key is an AuthenticationError")


def wait_until_idle(client, what):
    for _ in range(600):
        load = client.get("/load", cast_to=object)
        if load["running"] == 0 and load["kv_blocks_live"] == 0:
            break
        time.sleep(0.1)
    check(load["running"] == 0 and load["kv_blocks_live"] == 0, what)


def abort(client, model):
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=1900, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    wait_until_idle(client, "an aborted stream frees its blocks")


def retries(client, limited, model):
    """One request is under way with the limited key; another gets 429 until it ends."""
    held = limited.chat.completions.create(model=model, messages=QUESTION, max_tokens=1900, stream=True, extra_body={"ignore_eos": True})
    next(iter(held))
    try:
        limited.with_options(max_retries=0).chat.completions.create(model=model, messages=QUESTION, max_tokens=1)
    except openai.RateLimitError as error:
        check(error.response.headers["retry-after"] == "1", "429 says when to try again")
    else:
        check(False, "a key's second request gets 429")
    threading.Timer(0.5, held.close).start()
    answer = limited.with_options(max_retries=20).chat.completions.create(model=model, messages=QUESTION, max_tokens=1)
    check(answer.usage.completion_tokens == 1, "the client retries after 429 and succeeds")
    wait_until_idle(client, "nothing is left of the stream that was held")


async def asynchronous(base, key, model):
    async with openai.AsyncOpenAI(base_url=base, api_key=key, timeout=300) as client:
        async def one():
            stream = await client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, temperature=0, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        answers = await asyncio.gather(*(one() for _ in range(4)))
        check(len(set(answers)) == 1 and answers[0] != "", "four streams at a time say the same")


def main():
    base, key, limited_key = sys.argv[1].rstrip("/") + "/v1", sys.argv[2], sys.argv[3]
    client = openai.OpenAI(base_url=base, api_key=key, max_retries=2, timeout=300)
    limited = openai.OpenAI(base_url=base, api_key=limited_key, timeout=300)
    model = client.models.list().data[0].id
    check(client.models.retrieve(model).id == model, f"models: {model}")
    for part in (chat, choices_and_logprobs, completions, embeddings, errors, abort):
        part(client, model)
    retries(client, limited, model)
    asyncio.run(asynchronous(base, key, model))
    print(f"openai {openai.__version__}: {len(FAILURES)} failures")
    sys.exit(1 if FAILURES else 0)


main()
