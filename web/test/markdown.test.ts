import { describe, expect, it } from "vitest";
import { BlockParser, renderMarkdown } from "../src/lib/render/markdown.ts";
import { inlineMath } from "../src/lib/render/math.ts";
import { XSS } from "./xss.ts";

const SAMPLES = [
  "# Title\n\nA paragraph with **bold**, `code` and a [link](https://example.org).\n\n- one\n- two\n  - nested\n\n1. first\n2. second\n",
  "```python\ndef f(x):\n    return x\n\n\nprint(f(1))\n```\n\nafter the code\n",
  "| a | b |\n| --- | ---: |\n| 1 | 2 |\n| 3 | 4 |\n\n> quote\n> more\n\n---\n\nend",
  "**中文粗体。**后面的字，还有*斜体*。\n\n公式 $a^2+b^2=c^2$ 和\n\n$$\n\\int_0^1 x\\,dx\n$$\n\n结束",
  "Setext\n===\n\ntext\n\n    indented code\n\n    more\n\nlast \\(x\\) line\n\n\\[ y = 2 \\]\n\n* a\n\n* b\n\n  c\n",
  "- [ ] open\n- [x] done\n\n~~gone~~ https://example.org/path and example.com\n",
];

describe("BlockParser", () => {
  it("gives what the whole text gives, however the text is cut", () => {
    for (const sample of SAMPLES) {
      for (const step of [1, 3, 7, 50]) {
        const parser = new BlockParser();
        for (let at = step; at < sample.length; at += step) parser.update(sample.slice(0, at));
        parser.update(sample);
        const html = [...parser.done, ...(parser.last ? [parser.last] : [])].map((block) => block.html).join("");
        expect(html).toBe(renderMarkdown(sample));
      }
    }
  });

  it("never changes a block that is done", () => {
    for (const sample of SAMPLES) {
      const parser = new BlockParser();
      const seen: string[] = [];
      for (let at = 1; at <= sample.length; at++) {
        parser.update(sample.slice(0, at));
        parser.done.slice(0, seen.length).forEach((block, i) => expect(block.html).toBe(seen[i]));
        for (const block of parser.done.slice(seen.length)) seen.push(block.html);
      }
    }
  });

  it("parses only the end of a long text", () => {
    const parser = new BlockParser();
    const long = Array.from({ length: 400 }, (_, i) => `Paragraph ${i} of the text.`).join("\n\n");
    parser.update(long);
    const before = parser.done.length;
    parser.update(`${long} And more.`);
    expect(parser.done.length).toBe(before);
    expect(parser.last!.source).toBe("Paragraph 399 of the text. And more.");
  });

  it("starts anew when the text is another", () => {
    const parser = new BlockParser();
    parser.update("one\n\ntwo\n\nthree");
    parser.update("uno\n\ndos");
    expect(parser.done.map((block) => block.html).join("")).toBe("<p>uno</p>\n");
    expect(parser.last!.html).toBe("<p>dos</p>\n");
  });
});

describe("renderMarkdown", () => {
  it("keeps raw HTML as text", () => {
    expect(renderMarkdown("<b>x</b> <script>alert(1)</script>")).not.toMatch(/<b>|<script/);
  });
  it("writes no tag, attribute or address that could run something", () => {
    for (const attack of XSS) {
      const html = renderMarkdown(attack);
      expect(html).not.toMatch(/<(script|iframe|object|embed|svg|style|form|input|meta|base|link|video|audio|details|marquee|body)\b/i);
      expect(html).not.toMatch(/<[^>]*\son\w+\s*=/i);
      expect(html).not.toMatch(/(href|src)="\s*(javascript|vbscript|data:text|data:image\/svg)/i);
    }
  });
  it("shows a remote image as a link and never loads it", () => {
    expect(renderMarkdown("![cat](https://example.org/cat.png)")).toBe('<p><a class="image-link" href="https://example.org/cat.png">cat</a></p>\n');
  });
  it("emphasises beside Chinese punctuation, where CommonMark does not", () => {
    expect(renderMarkdown("这是**“重点”**的内容，**中文。**后")).toBe("<p>这是<strong>“重点”</strong>的内容，<strong>中文。</strong>后</p>\n");
  });
  it("makes links of addresses only", () => {
    expect(renderMarkdown("readme.md example.com a@b.cc")).toBe("<p>readme.md example.com a@b.cc</p>\n");
    expect(renderMarkdown("https://example.org/")).toContain('href="https://example.org/"');
  });
  it("aligns cells by a class, as the policy allows no style attribute", () => {
    const html = renderMarkdown("| a | b |\n| :-: | --: |\n| 1 | 2 |");
    expect(html).toContain('<td class="align-center">1</td>');
    expect(html).not.toContain("style=");
  });
  it("highlights known languages and leaves others plain", () => {
    expect(renderMarkdown("```js\nconst a = 1;\n```")).toContain("hljs-keyword");
    expect(renderMarkdown("```nonsense\nconst a = 1;\n```")).not.toContain("hljs");
  });
});

describe("inlineMath", () => {
  const tex = (text: string): string | null => inlineMath(text, 0, text.length)?.tex ?? null;
  it("takes formulas", () => {
    expect(tex("$x$")).toBe("x");
    expect(tex("$$x$$")).toBe("x");
    expect(tex("\\(x\\)")).toBe("x");
    expect(tex("$a\\$b$")).toBe("a\\$b");
  });
  it("leaves prices alone", () => {
    expect(tex("$5 and $10")).toBeNull();
    expect(tex("$ 5$")).toBeNull();
    expect(renderMarkdown("It costs $5, or US$10 to US$20.")).not.toContain("math");
  });
});
