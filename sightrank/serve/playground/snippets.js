// A request as code that runs as it stands: files travel inside it, a key comes from the environment.

const VARIABLE = "SIGHTRANK_KEY";

export const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };

/** The code for one body of /v1/rank. */
export function snippet(language, address, body, withKey) {
  const made = { curl, python, javascript }[language];
  return made(`${address}/v1/rank`, JSON.stringify(body, null, 2), withKey);
}

/** The same with long base64 shortened, to be looked at. */
export function shortened(code) {
  return code.replace(/(base64,[A-Za-z0-9+/]{12})[A-Za-z0-9+/=]{40,}/g, "$1…");
}

function curl(url, body, withKey) {
  const key = withKey ? `  -H "Authorization: Bearer $${VARIABLE}" \\\n` : "";
  return `curl -s ${url} \\
  -H 'Content-Type: application/json' \\
${key}  --data-binary @- <<'JSON'
${body}
JSON
`;
}

function python(url, body, withKey) {
  // The body holds strings, numbers and lists only, whose JSON is Python too.
  const key = withKey ? `headers["Authorization"] = "Bearer " + os.environ["${VARIABLE}"]\n` : "";
  return `import json
${withKey ? "import os\n" : ""}import urllib.request

body = ${body}
headers = {"Content-Type": "application/json"}
${key}request = urllib.request.Request("${url}", json.dumps(body).encode(), headers)
with urllib.request.urlopen(request) as answer:
    for result in json.load(answer)["results"]:
        print(result["relevance_score"], result["id"])
`;
}

function javascript(url, body, withKey) {
  const key = withKey ? `, Authorization: "Bearer " + process.env.${VARIABLE}` : "";
  return `const body = ${body};
const answer = await fetch("${url}", {
  method: "POST",
  headers: { "Content-Type": "application/json"${key} },
  body: JSON.stringify(body),
});
const found = await answer.json();
if (!answer.ok) throw new Error(found.detail);
for (const result of found.results) console.log(result.relevance_score, result.id);
`;
}
