// Prints the events under a topic, and what was lost of them:  listen CONFIG PATTERN [COUNT]
//   g++ -std=c++20 listen.cpp $(pkg-config --cflags --libs mirrorbus)
#include <mirrorbus.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc < 3) return 2;
  int left = argc > 3 ? std::stoi(argv[3]) : -1;
  mirrorbus::Listener* self = nullptr;
  mirrorbus::Listener listener(
      {.config_file = argv[1], .topics = {argv[2]}, .cursor_file = "", .from_oldest = true},
      [&](const mirrorbus::Event& event) {
        std::cout << event.topic << ' ' << event.signer << ' ' << event.seq << ' '
                  << event.body_json() << std::endl;
        if (--left == 0) self->stop();
      },
      [](const mirrorbus::Gap& gap) {
        std::cout << "lost from " << gap.publisher << ": " << gap.from << " on, " << gap.reason
                  << std::endl;
      });
  self = &listener;
  listener.run();
  return 0;
} catch (const std::exception& error) {
  std::cerr << "listen: " << error.what() << '\n';
  return 1;
}
