using System.Globalization;
using GpuTasks.Triggers;

namespace GpuTasks.Tests;

public sealed class TimerScheduleTests
{
    private static readonly DateTimeOffset Noon = new(2026, 3, 4, 12, 0, 0, TimeSpan.Zero);

    [Theory]
    [InlineData("@every 60m", "2026-03-04T13:00:00Z")]
    [InlineData("@every 1h30m", "2026-03-04T13:30:00Z")]
    [InlineData("@every 1.5h", "2026-03-04T13:30:00Z")]
    [InlineData("@every 90s", "2026-03-04T12:01:30Z")]
    [InlineData("0 0 4 * * *", "2026-03-05T04:00:00Z")]
    [InlineData("30 4 * * *", "2026-03-05T04:30:00Z")]
    [InlineData("15 30 8 ? * MON-FRI", "2026-03-05T08:30:15Z")]
    [InlineData("CRON_TZ=Asia/Shanghai 0 0 21 * * *", "2026-03-04T13:00:00Z")]
    [InlineData("TZ=America/New_York 0 0 8 * * *", "2026-03-04T13:00:00Z")]
    public void The_next_time_is_found(string expression, string next) =>
        Assert.Equal(DateTimeOffset.Parse(next, CultureInfo.InvariantCulture), TimerSchedule.Parse(expression).Next(Noon, Noon));

    [Theory]
    [InlineData("")]
    [InlineData("@every")]
    [InlineData("@every 5")]
    [InlineData("@every 0s")]
    [InlineData("@every -5m")]
    [InlineData("@every 9999999h")]
    [InlineData("@daily")]
    [InlineData("* * *")]
    [InlineData("0 0 25 * * *")]
    [InlineData("CRON_TZ=Mars/Olympus 0 0 4 * * *")]
    [InlineData("CRON_TZ= 0 0 4 * * *")]
    public void What_cannot_be_understood_is_said(string expression) =>
        Assert.NotEmpty(Assert.Throws<FormatException>(() => TimerSchedule.Parse(expression)).Message);

    [Fact]
    public void A_time_that_the_clocks_skip_or_repeat_comes_once()
    {
        var schedule = TimerSchedule.Parse("CRON_TZ=Europe/Berlin 0 30 2 * * *");
        Assert.Equal(2, Between(schedule, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"));
        Assert.Equal(2, Between(schedule, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"));
    }

    [Fact]
    public void Periods_are_counted_from_their_anchor_however_late_one_asks()
    {
        var schedule = TimerSchedule.Parse("@every 7m");
        Assert.Equal(Noon.AddMinutes(7), schedule.Next(Noon.AddMinutes(-100), Noon));
        Assert.Equal(Noon.AddMinutes(7 * 15), schedule.Next(Noon.AddMinutes(100), Noon));
        Assert.Equal(Noon.AddMinutes(14), schedule.Next(Noon.AddMinutes(7), Noon));
    }

    [Fact]
    public void Of_several_missed_times_the_first_is_made_up_for_once_under_one_id()
    {
        var (state, _) = TriggerTable.Create(new TriggersState(), "f1", Timer("@every 1m"), "0123456789", Noon);
        Assert.Empty(TriggerTable.Due(state, Noon.AddSeconds(59)));
        var firing = Assert.Single(TriggerTable.Due(state, Noon.AddMinutes(10)));
        Assert.Equal((Noon.AddMinutes(1), 9, true), (firing.DueAt, firing.Skipped, firing.CaughtUp));

        // A second try after a crash, later still, is the same task.
        Assert.Equal(firing.TaskId, Assert.Single(TriggerTable.Due(state, Noon.AddMinutes(12))).TaskId);
        state = TriggerTable.Fired(state, firing, Noon.AddMinutes(10).AddSeconds(1));
        Assert.Empty(TriggerTable.Due(state, Noon.AddMinutes(10).AddSeconds(2)));
        Assert.Equal(Noon.AddMinutes(11), TriggerTable.NextAt(state));
        var timer = Assert.Single(state.Triggers).Timer!;
        Assert.Equal((1L, 9L), (timer.CaughtUp, timer.Skipped));
        Assert.False(Assert.Single(TriggerTable.Due(state, Noon.AddMinutes(11))).CaughtUp);
    }

    [Fact]
    public void Triggers_of_an_earlier_function_of_the_name_are_not_there()
    {
        var (state, _) = TriggerTable.Create(new TriggersState(), "f1", Timer("@every 1m"), "0123456789", Noon);
        Assert.Empty(TriggerTable.Of(state, "f2").Triggers);
        (state, var answer) = TriggerTable.Create(state, "f2", Timer("@every 2m"), "9876543210", Noon);
        Assert.Equal(TriggerChange.Done, answer.Change);
        Assert.Equal("9876543210", Assert.Single(state.Triggers).TriggerId);
    }

    [Fact]
    public void A_disabled_timer_is_never_due_and_an_id_fits_whatever_the_name()
    {
        var (state, _) = TriggerTable.Create(new TriggersState(), "f1", Timer("@every 1m", enabled: false), "0123456789", Noon);
        Assert.Null(TriggerTable.NextAt(state));
        (state, _) = TriggerTable.Create(state, "f1", Timer("@every 1m") with { Name = new string('n', 128) }, "0123456789", Noon);
        Assert.InRange(Assert.Single(TriggerTable.Due(state, Noon.AddMinutes(1))).TaskId.Length, 1, 128);
    }

    private static int Between(TimerSchedule schedule, string from, string to)
    {
        var count = 0;
        var end = DateTimeOffset.Parse(to, CultureInfo.InvariantCulture);
        for (var next = schedule.Next(DateTimeOffset.Parse(from, CultureInfo.InvariantCulture), Noon); next < end; next = schedule.Next(next.Value, Noon))
        {
            count++;
        }

        return count;
    }

    private static TriggerSpec Timer(string expression, bool enabled = true) =>
        new() { Name = "t", Config = "{}", Timer = new TimerSpec { Expression = expression, Enabled = enabled } };
}
