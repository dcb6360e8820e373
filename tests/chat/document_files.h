// Small documents made in memory.
#pragma once

#include <zip.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pagemill::test {

inline std::string make_zip(const std::vector<std::pair<std::string, std::string>>& entries) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* const target = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_source_keep(target);
  zip_t* const archive = zip_open_from_source(target, ZIP_TRUNCATE, &error);
  for (const auto& [name, bytes] : entries) zip_file_add(archive, name.c_str(), zip_source_buffer(archive, bytes.data(), bytes.size(), 0), ZIP_FL_ENC_UTF_8);
  zip_close(archive);
  zip_source_open(target);
  zip_source_seek(target, 0, SEEK_END);
  std::string out(static_cast<size_t>(zip_source_tell(target)), '\0');
  zip_source_seek(target, 0, SEEK_SET);
  zip_source_read(target, out.data(), out.size());
  zip_source_close(target);
  zip_source_free(target);
  return out;
}

inline std::string make_docx(std::string_view body) {
  return make_zip({{"[Content_Types].xml", "<Types/>"}, {"word/document.xml", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body>" + std::string(body) + "</w:body></w:document>"}});
}

/// Objects → a PDF with its cross-reference table.
inline std::string pdf_of(const std::vector<std::string>& objects, const std::string& trailer = "") {
  std::string out = "%PDF-1.4\n";
  std::vector<size_t> offsets;
  for (size_t i = 0; i < objects.size(); ++i) {
    offsets.push_back(out.size());
    out += std::to_string(i + 1) + " 0 obj\n" + objects[i] + "\nendobj\n";
  }
  const size_t table = out.size();
  out += "xref\n0 " + std::to_string(objects.size() + 1) + "\n0000000000 65535 f \n";
  for (const size_t offset : offsets) {
    std::string number = std::to_string(offset);
    out += std::string(10 - number.size(), '0') + number + " 00000 n \n";
  }
  return out + "trailer\n<</Size " + std::to_string(objects.size() + 1) + "/Root 1 0 R" + trailer + ">>\nstartxref\n" + std::to_string(table) + "\n%%EOF\n";
}

inline std::string make_pdf(const std::vector<std::string>& pages) {
  std::string kids;
  std::vector<std::string> objects{"<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"};
  for (const std::string& text : pages) {
    const std::string content = text.empty() ? "" : "BT /F1 12 Tf 72 700 Td (" + text + ") Tj ET";
    objects.push_back("<</Length " + std::to_string(content.size()) + ">>\nstream\n" + content + "\nendstream");
    objects.push_back("<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents " + std::to_string(objects.size()) + " 0 R>>");
    kids += std::to_string(objects.size()) + " 0 R ";
  }
  objects[1] = "<</Type/Pages/Kids[" + kids + "]/Count " + std::to_string(pages.size()) + ">>";
  return pdf_of(objects);
}

/// The standard security handler with a user password that nobody has: the two hashes are noise.
inline std::string make_encrypted_pdf() {
  const std::string noise = "<" + std::string(64, '7') + ">";
  return pdf_of({"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[]/Count 0>>", "<</Filter/Standard/V 2/R 3/Length 128/P -44/O " + noise + "/U " + noise + ">>"}, "/Encrypt 3 0 R/ID[<0123456789abcdef0123456789abcdef><0123456789abcdef0123456789abcdef>]");
}

/// A page tree that is its own child, and a content stream whose length refers to itself.
inline std::string make_looping_pdf() {
  return pdf_of({"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[2 0 R 3 0 R]/Count 1000000/Parent 2 0 R>>", "<</Type/Page/Parent 2 0 R/Contents 4 0 R>>", "<</Length 4 0 R>>\nstream\nBT ET\nendstream"});
}

}  // namespace pagemill::test
