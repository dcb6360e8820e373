"""litellm against a running server, as provider "openai" and as "hosted_vllm": litellm_client.py URL KEY LIMITED-KEY"""

import importlib.metadata
import sys

import litellm
import openai

FAILURES = []
QUESTION = [{"role": "user", "content": "Say hello."}]


def check(condition, what):
    print(("ok    " if condition else "FAILED"), what, flush=True)
    if not condition:
        FAILURES.append(what)


def main():
    base, key = sys.argv[1].rstrip("/") + "/v1", sys.argv[2]
    name = openai.OpenAI(base_url=base, api_key=key).models.list().data[0].id
    litellm.suppress_debug_info = True
    for provider in ("openai", "hosted_vllm"):
        where = {"model": f"{provider}/{name}", "api_base": base, "api_key": key, "timeout": 300}
        answer = litellm.completion(messages=QUESTION, max_tokens=8, temperature=0, **where)
        check(answer.choices[0].message.content != "", f"{provider}: chat")
        check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, f"{provider}: usage")
        chunks = list(litellm.completion(messages=QUESTION, max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}, **where))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        check(text == answer.choices[0].message.content, f"{provider}: a stream says the same")
        check(litellm.stream_chunk_builder(chunks, messages=QUESTION).usage.completion_tokens == answer.usage.completion_tokens,
              f"{provider}: usage of a stream")
        vectors = litellm.embedding(input=["a cat", "physics"], encoding_format="float", **where).data
        check(len(vectors) == 2 and vectors[0]["embedding"] != vectors[1]["embedding"], f"{provider}: embeddings")
        for kind, arguments in [(litellm.ContextWindowExceededError, {"messages": [{"role": "user", "content": "word " * 20_000}]}),
                                (litellm.BadRequestError, {"messages": QUESTION, "temperature": 9}),
                                (litellm.NotFoundError, {"messages": QUESTION, "model": f"{provider}/no-such-model"}),
                                (litellm.AuthenticationError, {"messages": QUESTION, "api_key": "sk-unknown"})]:
            try:
                litellm.completion(**{**where, "num_retries": 0, **arguments})
                check(False, f"{provider}: {kind.__name__}")
            except kind:
                check(True, f"{provider}: {kind.__name__}")
            except Exception as error:  # the wrong kind is what is looked for
                check(False, f"{provider}: {kind.__name__}, not {type(error).__name__}: {error}")
    text = litellm.text_completion(model=f"text-completion-openai/{name}", prompt="One, two,", max_tokens=3, temperature=0, api_base=base, api_key=key)
    check(text.choices[0].text != "", "text completion")
    print(f"litellm {importlib.metadata.version('litellm')}: {len(FAILURES)} failures")
    sys.exit(1 if FAILURES else 0)


main()
