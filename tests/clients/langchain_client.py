"""LangChain's ChatOpenAI and OpenAIEmbeddings against a running server: langchain_client.py URL KEY LIMITED-KEY"""

import importlib.metadata
import sys

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

FAILURES = []


def check(condition, what):
    print(("ok    " if condition else "FAILED"), what, flush=True)
    if not condition:
        FAILURES.append(what)


def main():
    base, key, limited_key = sys.argv[1].rstrip("/") + "/v1", sys.argv[2], sys.argv[3]
    name = openai.OpenAI(base_url=base, api_key=key).models.list().data[0].id
    model = ChatOpenAI(base_url=base, api_key=key, model=name, temperature=0, max_tokens=8, timeout=300)

    answer = model.invoke([SystemMessage("Be brief."), HumanMessage("Say hello.")])
    check(isinstance(answer, AIMessage) and answer.content != "", "invoke")
    check(answer.usage_metadata["total_tokens"] == answer.usage_metadata["input_tokens"] + answer.usage_metadata["output_tokens"], "usage")
    check(answer.response_metadata["finish_reason"] in ("stop", "length"), "finish reason")

    chunks = list(model.stream([SystemMessage("Be brief."), HumanMessage("Say hello.")], stream_usage=True))
    check("".join(chunk.content for chunk in chunks) == answer.content, "a stream says the same")
    used = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    check(len(used) == 1 and used[0]["output_tokens"] == answer.usage_metadata["output_tokens"], "usage of a stream")

    history = [HumanMessage("Hello."), answer, HumanMessage("And now?")]
    check(model.invoke(history).usage_metadata["input_tokens"] > answer.usage_metadata["input_tokens"], "a conversation")
    check(len(model.batch(["One?", "Two?"])) == 2, "batch")

    scored = model.bind(logprobs=True, top_logprobs=2).invoke("A word?")
    ended = scored.response_metadata["finish_reason"] == "stop"  # by the model's end token, which is counted and not shown
    check(len(scored.response_metadata["logprobs"]["content"]) == scored.usage_metadata["output_tokens"] - ended, "logprobs")
    stopped = model.invoke("Say hello.", stop=[answer.content[:1]])
    check(answer.content[:1] not in stopped.content, "stop")

    for messages, arguments, param in [("x", {"temperature": 9}, "temperature"), ("word " * 20_000, {}, "input_tokens")]:
        try:
            model.bind(**arguments).invoke(messages)
            check(False, f"an error for {param}")
        except openai.BadRequestError as error:
            check(error.param == param, f"an error that names {param}")

    vectors = OpenAIEmbeddings(base_url=base, api_key=key, model=name, check_embedding_ctx_length=False).embed_documents(["a cat", "physics"])
    check(len(vectors) == 2 and vectors[0] != vectors[1], "embeddings")
    check(ChatOpenAI(base_url=base, api_key=limited_key, model=name, max_tokens=1).invoke("Hi").content is not None, "another key")

    print(f"langchain-openai {importlib.metadata.version('langchain-openai')}: {len(FAILURES)} failures")
    sys.exit(1 if FAILURES else 0)


main()
