/// \file
/// How many floats of scratch the convolutions in lanes lay out, for test_lanes.py. A line of numbers
/// in, one number out.
#include "sofie/kernels/elementwise.hxx"

#include "sofie/kernels/convolution/winograd_lanes.hxx"

using namespace sofie;

template <int Half>
static Size needed(const ConvShape &s, int inputs)
{
   if (inputs == 0) {
      const LanesPlanes planes = lanes_planes<Half>(s);
      return (lanes_most * Half + 16) * lanes_features + (planes.copied ? s.channels * planes.channel + 16 : 0);
   }
   alignas(64) static float memory[1];
   const WinogradLanesPlan plan =
      inputs == 6 ? winograd_lanes_plan<6, Half>(s, s.batch, memory) : winograd_lanes_plan<4, Half>(s, s.batch, memory);
   return plan.results - memory + (inputs - 2) * (inputs - 2) * plan.across * lanes_features;
}

int main()
{
   long n[17];
   for (;;) {
      for (long &number : n)
         if (std::scanf("%ld", &number) != 1)
            return 0;
      const ConvShape s = conv_shape({{{n[0], n[1], n[2], 1}}, {{1, n[3], n[4]}}, {{1, n[5], n[6]}}, {{1, n[7], n[8]}},
                                     {{1, n[9], n[10]}}, {{1, n[11], n[12]}}, {{0, n[13], n[14]}}});
      const int inputs = static_cast<int>(n[15]), half = static_cast<int>(n[16]);
      const Size size = half == 7   ? needed<7>(s, inputs)
                        : half == 6 ? needed<6>(s, inputs)
                        : half == 5 ? needed<5>(s, inputs)
                                    : needed<4>(s, inputs);
      std::printf("%ld\n", static_cast<long>(size));
   }
}
