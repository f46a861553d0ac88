// What is ranked: texts, images and PDFs, told by their bytes and not by their names.

let made = 0;

/** A passage. */
export function passage(text) {
  return { id: ++made, kind: "text", name: "", text };
}

/** Texts of a field: a blank line stands between two passages. */
export function passages(typed) {
  return typed.split(/\n[ \t]*\n/).map((each) => each.trim()).filter(Boolean).map(passage);
}

/** A file as a document. Throws an Error whose message can be shown. */
export async function fromFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const name = file.name || "pasted";
  if (!bytes.length) throw new Error(`${name} is empty.`);
  if (isPdf(bytes)) return binary("pdf", name, "application/pdf", bytes);
  const text = asText(bytes);
  if (text === null) return binary("image", name, imageType(bytes) ?? file.type, bytes);
  if (!text.trim()) throw new Error(`${name} holds nothing but white space.`);
  return { id: ++made, kind: "text", name, text };
}

/** A document as the API takes it. */
export function sent(document) {
  if (document.kind === "text") return { text: document.text };
  const type = document.kind === "pdf" ? "application/pdf" : document.type;
  return { [document.kind]: `data:${type};base64,${document.base64}` };
}

/** What to call it in a list. */
export function title(document) {
  return document.name || document.text;
}

function binary(kind, name, type, bytes) {
  const known = /^image\//.test(type) ? type : "image/*";
  const url = kind === "image" ? URL.createObjectURL(new Blob([bytes], { type: known })) : null;
  const sure = kind === "pdf" ? type : known === "image/*" ? "application/octet-stream" : known;
  return { id: ++made, kind, name, type: sure, base64: base64(bytes), url };
}

function isPdf(bytes) {
  const start = new TextDecoder("latin1").decode(bytes.subarray(0, 1024));
  return start.trimStart().startsWith("%PDF-");
}

function imageType(bytes) {
  const start = new TextDecoder("latin1").decode(bytes.subarray(0, 12));
  if (start.startsWith("\x89PNG")) return "image/png";
  if (start.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (start.startsWith("GIF8")) return "image/gif";
  if (start.startsWith("RIFF") && start.endsWith("WEBP")) return "image/webp";
  return null;
}

/** The text in UTF-8 bytes, or null for what is none. */
function asText(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

function base64(bytes) {
  const pieces = [];
  const step = 0x6000; // a multiple of 3, so that only the last piece is padded
  for (let at = 0; at < bytes.length; at += step) {
    pieces.push(btoa(String.fromCharCode(...bytes.subarray(at, at + step))));
  }
  return pieces.join("");
}
