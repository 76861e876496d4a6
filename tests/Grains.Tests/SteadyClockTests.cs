using GpuTasks.Simulation;
using Microsoft.Extensions.Time.Testing;

namespace GpuTasks;

public sealed class SteadyClockTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void A_step_of_an_hour_is_caught_up_with_slowly_and_time_never_goes_back(int hours)
    {
        var machine = new FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var wall = new SteppedClock(machine);
        var clock = new SteadyClock(wall);
        machine.Advance(TimeSpan.FromMinutes(5));
        Assert.Equal(wall.GetUtcNow(), clock.GetUtcNow());
        wall.Step = TimeSpan.FromHours(hours);
        var start = clock.GetUtcNow();
        var last = start;
        for (var n = 0; n < 600; n++)
        {
            machine.Advance(TimeSpan.FromSeconds(1));
            var now = clock.GetUtcNow();
            Assert.True(now > last);
            last = now;
        }

        Assert.Equal(600 * (1 + (hours * SteadyClock.CatchUp)), (last - start).TotalSeconds, tolerance: 0.01);
        for (var n = 0; n < 60; n++)
        {
            machine.Advance(TimeSpan.FromHours(1));
            clock.GetUtcNow();
        }

        Assert.Equal(wall.GetUtcNow(), clock.GetUtcNow());
    }
}
