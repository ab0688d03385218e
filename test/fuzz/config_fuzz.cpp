// A configuration file, as every daemon reads it. It is the operator's own, so it only must not
// break anything; every fault is a ConfigError.
#include "bus/peer/settings.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::view(data, size);
  (void)base::parse_size(text.substr(0, 32));
  if (const auto duration = base::parse_duration(text.substr(0, 32)))
    fuzz::require(*duration >= base::Duration::zero(), "no duration is negative");
  try {
    const base::Config config = base::Config::parse(text, "fuzz.toml");
    (void)peer::Settings::read(config, "fuzz");
    config.finish();
  } catch (const base::ConfigError& error) {
    fuzz::require(std::string_view(error.what()).starts_with("fuzz.toml"),
                  "an error names the file");
  }
  return 0;
}
