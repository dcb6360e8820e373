import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { en } from "../src/lib/i18n/en.ts";
import { format } from "../src/lib/i18n/index.svelte.ts";
import { zh } from "../src/lib/i18n/zh.ts";

const ROOT = new URL("..", import.meta.url).pathname;
function* sources(folder: string): Generator<[string, string]> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (/\.(ts|svelte)$/.test(entry.name)) yield [path, readFileSync(path, "utf8")];
  }
}

describe("words", () => {
  it("are the same keys in every language, none empty", () => {
    expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
    for (const words of [en, zh]) for (const [key, text] of Object.entries(words)) expect(text.trim(), key).not.toBe("");
  });
  it("use the same values in every language", () => {
    const names = (text: string): string[] => [...new Set([...text.matchAll(/(?<!\{)\{(\w+)\}/g)].map((match) => match[1]!))].sort();
    for (const [key, text] of Object.entries(en)) expect(names(zh[key as keyof typeof en]), key).toEqual(names(text));
  });
  it("are all used", () => {
    const all = [...sources(join(ROOT, "src"))].filter(([path]) => !/i18n\/(en|zh)\.ts$/.test(path)).map(([, text]) => text).join("\n");
    for (const key of Object.keys(en)) {
      const prefix = key.slice(0, key.indexOf(".") + 1);
      expect(all.includes(`"${key}"`) || all.includes(`\`${prefix}\${`), key).toBe(true);
    }
  });
  it("choose the plural and write numbers as the language does", () => {
    expect(format("{n} token||{n} tokens", { n: 1 }, "en")).toBe("1 token");
    expect(format("{n} token||{n} tokens", { n: 12345 }, "en")).toBe("12,345 tokens");
    expect(format("{n} 词元", { n: 1 }, "zh-CN")).toBe("1 词元");
    expect(format("as {{name}} is", {}, "en")).toBe("as {{name}} is");
  });
  it("stand in the files of words only: no component holds a Chinese sentence", () => {
    for (const [path, text] of sources(join(ROOT, "src"))) {
      if (/i18n\//.test(path)) continue;
      expect(/[\u4e00-\u9fff]/.test(text), path).toBe(false);
    }
  });
});

describe("sinks of HTML", () => {
  it("are one: DOMPurify's, in render/sanitize.ts", () => {
    for (const [path, text] of sources(join(ROOT, "src"))) {
      expect(/\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTMLUnsafe|\beval\(|new Function/.test(text), path).toBe(false);
      if (!path.endsWith("sanitize.ts")) expect(/DOMPurify|createPolicy/.test(text.replace(/\/\/.*/g, "")), path).toBe(false);
    }
  });
  it("run no frame that has the page's origin", () => {
    const frames = [...sources(join(ROOT, "src"))].filter(([, text]) => /createElement\("iframe"\)|<iframe/.test(text));
    expect(frames.map(([path]) => path.split("/").pop())).toEqual(["diagram.ts"]);
    expect([...frames[0]![1].matchAll(/setAttribute\("sandbox", "([^"]*)"\)/g)].map((match) => match[1])).toEqual(["allow-scripts"]);
  });
  it("have no company: no style attributes, window messages or window.open", () => {
    for (const [path, text] of sources(join(ROOT, "src"))) {
      expect(/\sstyle="|setAttribute\("style"|window\.open|addEventListener\("message"|onmessage=\{/.test(text), path).toBe(false);
    }
  });
});
