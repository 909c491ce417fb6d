#include "ctl/render/table.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "ctl/render/utf8.h"

namespace supervisor {
namespace {

std::string_view ColorSequence(Color color) {
  switch (color) {
    case Color::kNone:
      return "";
    case Color::kBold:
      return "\x1b[1m";
    case Color::kDim:
      return "\x1b[2m";
    case Color::kRed:
      return "\x1b[31m";
    case Color::kGreen:
      return "\x1b[32m";
    case Color::kYellow:
      return "\x1b[33m";
    case Color::kCyan:
      return "\x1b[36m";
  }
  return "";
}

constexpr std::string_view kGap = "  ";

void AppendPadded(std::string& line, const std::string& text, Color color, size_t width, Table::Align align,
                  bool is_last, bool colored) {
  const std::string padding(width - std::min(width, DisplayWidth(text)), ' ');
  if (align == Table::Align::kRight) {
    line += padding;
  }
  line += Colored(text, color, colored);
  if (align == Table::Align::kLeft && !is_last) {
    line += padding;
  }
  if (!is_last) {
    line += kGap;
  }
}

}  // namespace

std::string Colored(std::string_view text, Color color, bool enabled) {
  std::string out;
  if (!enabled || color == Color::kNone) {
    out = text;
    return out;
  }
  out += ColorSequence(color);
  out += text;
  out += "\x1b[0m";
  return out;
}

Table::Cell::Cell(const std::string& cell_text, Color cell_color)
    : text(EscapeForTerminal(cell_text)), color(cell_color) {}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  widths_.reserve(columns_.size());
  for (const Column& column : columns_) {
    widths_.push_back(column.header.size());
  }
}

void Table::AddRow(std::vector<Cell> cells) {
  assert(cells.size() == columns_.size());
  for (size_t i = 0; i < cells.size(); ++i) {
    widths_[i] = std::max(widths_[i], DisplayWidth(cells[i].text));
  }
  rows_.push_back(std::move(cells));
}

std::string Table::Render(bool color, std::string_view indent) const {
  std::string out;
  const auto append_line = [&](const auto& cell_at) {
    std::string line(indent);
    for (size_t i = 0; i < columns_.size(); ++i) {
      const auto& [text, cell_color] = cell_at(i);
      AppendPadded(line, text, cell_color, widths_[i], columns_[i].align, i + 1 == columns_.size(), color);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line;
    out += '\n';
  };
  append_line([&](size_t i) { return std::pair(std::string(columns_[i].header), Color::kBold); });
  for (const std::vector<Cell>& row : rows_) {
    append_line([&](size_t i) { return std::pair(row[i].text, row[i].color); });
  }
  return out;
}

}  // namespace supervisor
