// The only place where text becomes HTML: DOMPurify, behind the page's one Trusted Types policy. test/sinks.test.ts holds the tree to it.
import DOMPurify, { type Config } from "dompurify";

type Policy = { createHTML(html: string): unknown; createScriptURL(url: string): unknown };
type Factory = { createPolicy(name: string, rules: Policy): Policy };

// DOMPurify hands the text to a parser whose document is inert, and filters the nodes before anything of them reaches the page.
const rules: Policy = {
  createHTML: (html) => html,
  createScriptURL: () => { throw new TypeError("no script is loaded by address"); },
};

const CONFIG: Config = {
  ALLOWED_TAGS: [
    "a", "abbr", "b", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p",
    "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "src", "alt", "class", "title", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|data:image\/(?:png|jpeg|gif|webp);base64,)/i,
  RETURN_DOM_FRAGMENT: true,
};

let purify: ((html: string) => DocumentFragment) | undefined;

function start(): (html: string) => DocumentFragment {
  const factory = (globalThis as { trustedTypes?: Factory }).trustedTypes;
  const config = factory ? { ...CONFIG, TRUSTED_TYPES_POLICY: factory.createPolicy("pagemill", rules) as never } : CONFIG;
  DOMPurify.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName !== "A") return;
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  });
  return (html) => DOMPurify.sanitize(html, config) as unknown as DocumentFragment;
}

export function toFragment(html: string): DocumentFragment {
  purify ??= start();
  return purify(html);
}
