using System.Diagnostics;
using GpuTasks.Containers;

namespace GpuTasks.Tests.Containers;

public sealed class AwakeClockTests
{
    [Fact]
    public void Time_that_passes_counts_and_of_a_freeze_no_more_than_two_seconds()
    {
        var machine = new SkippingClock();
        var real = Stopwatch.StartNew();
        using var clock = new AwakeClock(machine);
        var start = clock.GetTimestamp();
        for (var n = 0; n < 10; n++)
        {
            machine.Skip(TimeSpan.FromSeconds(1.5));
            clock.GetTimestamp();
        }

        var passed = clock.GetElapsedTime(start);
        Assert.True(passed >= TimeSpan.FromSeconds(15), $"{passed}");
        machine.Skip(TimeSpan.FromHours(1));
        passed = clock.GetElapsedTime(start);
        Assert.True(passed <= TimeSpan.FromSeconds(15) + AwakeClock.MostAtOnce + real.Elapsed, $"{passed}");
    }
}
