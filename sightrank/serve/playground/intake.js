// Files come by choosing, pasting and dropping; texts by dropping too.

const at = (id) => document.getElementById(id);

/** `to`: what takes files and texts, for the query and for the documents. */
export function connectIntake(to) {
  at("files").addEventListener("change", (event) => chosen(event.target, to.documents));
  at("query-file").addEventListener("change", (event) => chosen(event.target, to.query));
  document.addEventListener("paste", (event) => pasted(event, to));
  connectDrops(to);
}

function chosen(input, take) {
  take([...input.files]);
  input.value = ""; // so that the same file can be chosen again
}

function pasted(event, to) {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  document.activeElement === at("query") ? to.query(files) : to.documents(files);
}

function connectDrops(to) {
  const fields = [at("query-field"), at("documents-field")];
  const under = (event) => fields.find((field) => field.contains(event.target)) ?? fields[1];
  const mark = (field) => fields.forEach((each) => each.classList.toggle("over", each === field));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(under(event));
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || mark(null));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(null);
    const files = [...event.dataTransfer.files];
    const text = event.dataTransfer.getData("text/plain");
    const isQuery = under(event) === fields[0];
    if (files.length) isQuery ? to.query(files) : to.documents(files);
    else if (text) isQuery ? to.queryText(text) : to.documentText(text);
  });
}
