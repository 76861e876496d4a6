using GpuTasks.Destinations;

namespace GpuTasks.Tests.Destinations;

public sealed class DeliveryPlanTests
{
    private static readonly DateTimeOffset T0 = DateTimeOffset.FromUnixTimeMilliseconds(1_700_000_000_000);

    [Fact]
    public void Pauses_double_to_ten_minutes_less_up_to_half()
    {
        for (var pauses = 0; pauses < 100; pauses++)
        {
            var whole = Math.Min(600, Math.Pow(2, pauses));
            Assert.InRange(DeliveryPlan.PauseAfter("a", pauses).TotalSeconds, whole / 2, whole);
        }
    }

    [Fact]
    public void Deliveries_that_missed_together_do_not_come_back_together()
    {
        var pauses = Enumerable.Range(0, 1_000).Select(i => DeliveryPlan.PauseAfter($"d{i}", 9).TotalSeconds).ToList();
        foreach (var (low, high) in new[] { (256, 320), (320, 384), (384, 448), (448, 512) })
        {
            Assert.InRange(pauses.Count(pause => pause >= low && pause < high), 150, 350);
        }
    }

    [Fact]
    public void The_last_try_is_at_the_end_of_the_day()
    {
        var end = T0 + DeliveryPlan.Patience;
        Assert.Equal(end, DeliveryPlan.Next("a", 50, T0, end.AddSeconds(-1), null));
        Assert.Null(DeliveryPlan.Next("a", 50, T0, end, null));
        Assert.Equal(end, DeliveryPlan.Next("a", 0, T0, T0, TimeSpan.MaxValue));
        Assert.Equal(T0.AddHours(1), DeliveryPlan.Next("a", 0, T0, T0, TimeSpan.FromHours(1)));
        Assert.InRange(DeliveryPlan.Next("a", 9, T0, T0, TimeSpan.FromSeconds(1))!.Value, T0.AddSeconds(256), T0.AddSeconds(512));
    }
}
