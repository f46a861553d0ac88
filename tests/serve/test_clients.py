"""Other services' own clients, with another base URL and nothing else changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightrank import Reranker
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from tests.serve.live import live

TEXTS = ["Leaves turn light into sugar.", "The market fell.", "sugar cane"]
CLIENTS = {
    "cohere": """
import cohere
found = cohere.ClientV2("key", base_url=URL).rerank(
    model="rerank-v3.5", query="sugar", documents=TEXTS, top_n=2)
assert found.meta.tokens.input_tokens > 0 and found.id
show([(each.index, each.relevance_score) for each in found.results], 2)
for model in ("rerank-english-v3.0", "sightrank"):
    found = cohere.Client("key", base_url=URL).rerank(
        model=model, query="sugar", documents=TEXTS, return_documents=True)
    assert [each.document.text for each in found.results] == [
        TEXTS[each.index] for each in found.results]
show([(each.index, each.relevance_score) for each in found.results])
found = cohere.Client("key", base_url=URL).rerank(
    model="rerank-english-v3.0", query="sugar", documents=[{"text": text} for text in TEXTS],
    rank_fields=["text"])
show([(each.index, each.relevance_score) for each in found.results])
try:
    cohere.ClientV2("key", base_url=URL).rerank(model="gpt-4", query="a", documents=TEXTS)
except cohere.BadRequestError as error:
    assert "not found" in error.body["message"], error.body
    show(None)
""",
    "coheres_shapes": """
import cohere, httpx
from pydantic import BaseModel

def check(kind, path, **more):  # their types are made from the shapes they publish
    body = {"query": "sugar", "documents": TEXTS, **more}
    raw = httpx.post(URL + path, json=body).json()
    waiting = [kind.model_validate(raw)]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseModel):
            assert not each.model_extra, each
            waiting += each.__dict__.values()
        elif isinstance(each, list):
            waiting += each
    show([(each["index"], each["relevance_score"]) for each in raw["results"]])

check(cohere.V2RerankResponse, "/v2/rerank", model="rerank-v3.5")
check(cohere.RerankResponse, "/v1/rerank", model="rerank-english-v3.0", return_documents=True)
check(cohere.RerankResponse, "/cohere/v1/rerank", model="rerank-english-v3.0")
""",
    "langchain": """
import warnings
warnings.simplefilter("ignore")
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document
jina_rerank.JINA_API_URL = URL + "/v1/rerank"
client = jina_rerank.JinaRerank(jina_api_key="key", top_n=2)
found = client.compress_documents([Document(text) for text in TEXTS], "sugar")
show([(TEXTS.index(each.page_content), each.metadata["relevance_score"]) for each in found], 2)
""",
    "llama_index": """
import warnings
warnings.simplefilter("ignore")
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.jinaai_rerank import JinaRerank
nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
client = JinaRerank(base_url=URL + "/v1", api_key="key", top_n=3)
found = client.postprocess_nodes(nodes, query_bundle=QueryBundle("sugar"))
show([(TEXTS.index(each.node.text), each.score) for each in found])
""",
    "litellm": """
import warnings
warnings.simplefilter("ignore")
import litellm
for model in ("jina_ai/jina-reranker-v2-base-multilingual", "cohere/rerank-v3.5",
              "cohere/rerank-english-v3.0", "hosted_vllm/sightrank"):
    found = litellm.rerank(
        model=model, query="sugar", documents=TEXTS, top_n=3, api_key="key", api_base=URL)
    show([(each["index"], each["relevance_score"]) for each in found.results])
""",
}
FRAME = """
import sys
URL, TEXTS = sys.argv[1], sys.argv[2:5]
EXPECTED = [(int(each.split(":")[0]), float(each.split(":")[1])) for each in sys.argv[5:]]
def show(found, top=None):
    if found is not None:
        assert len(found) == len(EXPECTED[:top]), found
        for (index, score), (place, value) in zip(found, EXPECTED[:top]):
            assert index == place and abs(score - value) < 1e-6, (found, EXPECTED)
    print("as expected")
"""


@pytest.fixture(scope="module")
def url(reranker: Reranker) -> Iterator[str]:
    with live(create_app(reranker, NoAccess())) as address:
        yield address


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_what_the_library_gives(
    url: str, reranker: Reranker, name: str, tmp_path: Path
) -> None:
    expected = [f"{hit.index}:{hit.score!r}" for hit in reranker.rank("sugar", TEXTS)]
    # In a process of its own: these packages warn on import, and here warnings are errors.
    done = subprocess.run(
        [sys.executable, "-c", FRAME + CLIENTS[name], url, *TEXTS, *expected],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "as expected" in done.stdout
