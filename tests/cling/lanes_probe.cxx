/// \file
/// How many floats of scratch the convolutions in lanes lay out, for test_lanes.py. A line of numbers
/// in, one number out. Half a tile has 0 columns where the kernel decides it, and one with AVX2.
#include "sofie/kernels/elementwise.hxx"

#include "sofie/kernels/convolution/winograd_lanes.hxx"

using namespace sofie;

template <int Inputs>
static Size winograd_needed(const ConvShape &s, Size half)
{
   alignas(64) static float memory[1];
   // Of tiles that the kernel does not choose nothing is needed.
   if (half == 0 && winograd_choice(s, 12) != Inputs)
      return 0;
   half = half ? half : winograd_best_tile<Inputs, true>(s).half;
   const WinogradLanesPlan plan = winograd_lanes_plan<Inputs>(s, half, s.batch, memory);
   // Each line of tiles must be done at a time.
   if (plan.across > lanes_line * half)
      return Size{1} << 40;
   return plan.results - memory + (Inputs - 2) * (Inputs - 2) * plan.across * lanes_features;
}

static Size needed(const ConvShape &s, int inputs, Size half)
{
   if (inputs == 6)
      return winograd_needed<6>(s, half);
   if (inputs == 4)
      return winograd_needed<4>(s, half);
   half = half ? half : lanes_best_tile<true>(s.out[2], s.depth(), 0).half;
   const LanesPlanes planes = lanes_planes(s, half);
   return (lanes_most * half + 16) * lanes_features + (planes.copied ? s.channels * planes.channel + 16 : 0);
}

int main()
{
   long n[17];
   for (;;) {
      for (long &number : n)
         if (std::scanf("%ld", &number) != 1)
            return 0;
      const ConvShape s = conv_shape({{{n[0], n[1], n[2], 1}},
                                      {{1, n[3], n[4]}},
                                      {{1, n[5], n[6]}},
                                      {{1, n[7], n[8]}},
                                      {{1, n[9], n[10]}},
                                      {{1, n[11], n[12]}},
                                      {{0, n[13], n[14]}}});
      const int inputs = static_cast<int>(n[15]);
      const Size half = n[16] < lanes_most_half ? n[16] : lanes_most_half;
      std::printf("%ld\n", static_cast<long>(needed(s, inputs, half)));
   }
}
