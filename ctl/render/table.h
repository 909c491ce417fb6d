#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

enum class Color { kNone, kBold, kDim, kRed, kGreen, kYellow, kCyan };

// `text` in that colour where `enabled`, else as it is.
std::string Colored(std::string_view text, Color color, bool enabled);

// Columns aligned by what a terminal shows, not by bytes. Whatever is put in is made safe for a terminal.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string_view header;
    Align align = Align::kLeft;
  };
  struct Cell {
    // Implicit, so that rows read well.
    // NOLINTNEXTLINE(google-explicit-constructor)
    Cell(const std::string& cell_text, Color cell_color = Color::kNone);

    std::string text;
    Color color;
  };

  explicit Table(std::vector<Column> columns);
  // As many cells as there are columns.
  void AddRow(std::vector<Cell> cells);
  // Header and rows, each line with its newline; no blanks at the end of lines.
  std::string Render(bool color, std::string_view indent = "") const;

 private:
  std::vector<Column> columns_;
  std::vector<size_t> widths_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace supervisor
