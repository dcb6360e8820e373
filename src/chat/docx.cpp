#include "chat/docx.h"

#include <pugixml.hpp>

#include "base/limits.h"
#include "chat/plain_text.h"
#include "chat/zip_reader.h"

namespace pagemill::chat {
namespace {

tl::unexpected<Problem> damaged() { return refuse(400, "damaged", "This Word document is damaged: it could not be read."); }
tl::unexpected<Problem> bomb() { return refuse(400, "bomb", "This document unpacks to far more than it should: it is not read."); }

/// Walks the XML with a depth of its own, so that a million nested elements end in an error and not on the stack.
class TextWriter {
 public:
  std::string text;
  bool hidden = false, too_deep = false;

  void walk(const pugi::xml_node& node, int depth) {
    if (depth > kDocxDepthMax) {
      too_deep = true;
      return;
    }
    for (const pugi::xml_node& child : node.children()) {
      if (too_deep || text.size() > limits::kDocumentTextBytes) return;
      element(child, depth);
    }
  }

 private:
  void element(const pugi::xml_node& node, int depth) {
    const std::string_view name = local(node.name());
    if (name == "t") text += node.text().get();
    else if (name == "tab") text += '\t';
    else if (name == "br" || name == "cr") text += '\n';
    else if (name == "noBreakHyphen") text += '-';
    else if (name == "p") paragraph(node, depth);
    else if (name == "tbl") table(node, depth);
    else if (name == "r") run(node, depth);
    // Deleted text, instructions of fields, foreign formats inside, drawings' fallbacks (which say everything twice).
    else if (name == "del" || name == "moveFrom" || name == "delText" || name == "instrText" || name == "altChunk" || name == "object" || name == "Fallback" || name == "pPr" || name == "sectPr") return;
    else walk(node, depth + 1);
  }

  void run(const pugi::xml_node& node, int depth) {
    for (const pugi::xml_node& properties : node.children()) {
      if (local(properties.name()) != "rPr") continue;
      for (const pugi::xml_node& property : properties.children())
        if (local(property.name()) == "vanish" && on(property)) {
          hidden = true;
          return;
        }
    }
    walk(node, depth + 1);
  }

  void paragraph(const pugi::xml_node& node, int depth) {
    if (in_cell_) {
      if (!text.empty() && text.back() != ' ' && text.back() != '|') text += ' ';
    } else {
      const int level = heading_level(node);
      if (level > 0) text.append(static_cast<size_t>(level), '#').append(" ");
    }
    walk(node, depth + 1);
    if (!in_cell_) text += "\n\n";
  }

  void table(const pugi::xml_node& node, int depth) {
    const bool outer = in_cell_;
    bool first = true;
    for (const pugi::xml_node& row : node.children()) {
      if (local(row.name()) != "tr") continue;
      size_t cells = 0;
      std::string before;
      before.swap(text);
      for (const pugi::xml_node& cell : row.children()) {
        if (local(cell.name()) != "tc") continue;
        in_cell_ = true;
        text += "| ";
        walk(cell, depth + 2);
        text += ' ';
        ++cells;
      }
      in_cell_ = outer;
      for (char& c : text)
        if (c == '\n') c = ' ';
      text = std::move(before) + text + "|\n";
      if (std::exchange(first, false)) {
        for (size_t i = 0; i < cells; ++i) text += "| --- ";
        text += "|\n";
      }
    }
    text += '\n';
  }

  static int heading_level(const pugi::xml_node& paragraph) {
    for (const pugi::xml_node& properties : paragraph.children()) {
      if (local(properties.name()) != "pPr") continue;
      for (const pugi::xml_node& property : properties.children()) {
        const std::string_view value = attribute(property, "val");
        if (local(property.name()) == "pStyle" && (value.starts_with("Heading") || value.starts_with("heading")) && value.size() == 8 && value[7] >= '1' && value[7] <= '6') return value[7] - '0';
        if (local(property.name()) == "pStyle" && value.size() == 1 && value[0] >= '1' && value[0] <= '6') return value[0] - '0';  // Chinese Word's
        if (local(property.name()) == "pStyle" && value == "Title") return 1;
      }
    }
    return 0;
  }

  static std::string_view local(std::string_view name) { return name.substr(name.find(':') + 1); }
  static std::string_view attribute(const pugi::xml_node& node, std::string_view name) {
    for (const pugi::xml_attribute& one : node.attributes())
      if (local(one.name()) == name) return one.value();
    return {};
  }
  static bool on(const pugi::xml_node& node) {
    const std::string_view value = attribute(node, "val");
    return value != "0" && value != "false" && value != "off";
  }

  bool in_cell_ = false;
};

bool has_doctype(const pugi::xml_node& document) {
  for (const pugi::xml_node& node : document.children())
    if (node.type() == pugi::node_doctype) return true;
  return false;
}

Outcome<void> append_part(TextWriter& writer, std::string& xml) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_buffer_inplace(xml.data(), xml.size(), pugi::parse_default | pugi::parse_ws_pcdata | pugi::parse_doctype);
  if (has_doctype(document)) return refuse(400, "damaged", "This document has a DOCTYPE, which Word documents never have: it is not read.");
  if (parsed.status == pugi::status_out_of_memory) return refuse(400, "too_large", "This document needs too much memory.");
  if (!parsed) return damaged();
  writer.walk(document, 0);
  if (writer.too_deep) return bomb();
  return {};
}

}  // namespace

Outcome<Extracted> read_docx(std::string_view bytes) {
  PM_ASSIGN(ZipReader archive, ZipReader::open(bytes));
  TextWriter writer;
  PM_ASSIGN(std::string body, archive.read("word/document.xml"));
  if (body.empty()) return refuse(400, "unsupported_type", "This is no Word document: only PDF, Word (.docx) and text files can be read.");
  PM_TRY(append_part(writer, body));
  body.clear();
  for (const char* notes : {"word/footnotes.xml", "word/endnotes.xml"}) {
    PM_ASSIGN(std::string part, archive.read(notes));
    if (!part.empty()) PM_TRY(append_part(writer, part));
  }
  Extracted extracted{"docx", {tidy_text(writer.text)}, "UTF-8", {}};
  std::string& text = extracted.pages.front();
  if (text.size() > limits::kDocumentTextBytes) return refuse(400, "too_large", "This document holds too much text.");
  while (text.ends_with('\n') || text.ends_with(' ')) text.pop_back();
  if (text.find_first_not_of(" \t\n") == std::string::npos) return refuse(400, "empty", "This document holds no text.");
  if (writer.hidden) extracted.warnings.emplace_back("hidden text was left out");
  return extracted;
}

}  // namespace pagemill::chat
