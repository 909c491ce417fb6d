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

std::vector<size_t> Table::Fitted(size_t width) const {
  constexpr size_t kReadable = 16;
  std::vector<size_t> fitted = widths_;
  if (width == 0) {
    return fitted;
  }
  const auto needed = [&](bool cut) {
    size_t sum = 0;
    for (size_t i = 0; i < fitted.size(); ++i) {
      const bool may_cut = cut && columns_[i].fit == Fit::kCut;
      const size_t own = may_cut ? std::min(fitted[i], kReadable) : fitted[i];
      sum += own == 0 ? 0 : own + (sum == 0 ? 0 : kGap.size());
    }
    return sum;
  };
  while (needed(true) > width) {
    size_t first = columns_.size();
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].fit == Fit::kDrop && fitted[i] != 0 &&
          (first == columns_.size() || columns_[i].rank < columns_[first].rank)) {
        first = i;
      }
    }
    if (first == columns_.size()) {
      break;
    }
    fitted[first] = 0;
  }
  for (size_t i = 0; i < columns_.size() && needed(false) > width; ++i) {
    if (columns_[i].fit == Fit::kCut) {
      const size_t excess = needed(false) - width;
      fitted[i] = std::max(std::min(fitted[i], kReadable), fitted[i] - std::min(fitted[i], excess));
    }
  }
  return fitted;
}

std::string Table::Render(bool color, std::string_view indent, size_t width) const {
  const std::vector<size_t> fitted = Fitted(width > indent.size() ? width - indent.size() : width);
  std::vector<size_t> shown;
  std::string left_out;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (fitted[i] != 0) {
      shown.push_back(i);
    } else {
      left_out += left_out.empty() ? "" : ", ";
      left_out += columns_[i].header;
    }
  }
  std::string out;
  const auto append_line = [&](const auto& cell_at) {
    std::string line(indent);
    for (const size_t i : shown) {
      const auto& [text, cell_color] = cell_at(i);
      AppendPadded(line, CutToWidth(text, fitted[i]), cell_color, fitted[i], columns_[i].align, i == shown.back(),
                   color);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line;
    out += '\n';
  };
  append_line([&](size_t i) { return std::pair(std::string(columns_[i].header), Color::kBold); });
  for (const std::vector<Cell>& row : rows_) {
    append_line([&](size_t i) { return std::pair(row[i].text, row[i].color); });
  }
  if (!left_out.empty()) {
    const std::string note = "(too narrow for: " + left_out + ")";
    out += std::string(indent) + Colored(CutToWidth(note, width), Color::kDim, color) + "\n";
  }
  return out;
}

}  // namespace supervisor
