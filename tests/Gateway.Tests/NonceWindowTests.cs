using GpuTasks.Security;

namespace GpuTasks.Gateway.Tests;

public sealed class NonceWindowTests
{
    private static readonly DateTimeOffset Start = new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);
    private static readonly TimeSpan Skew = TimeSpan.FromMinutes(15);

    [Fact]
    public void A_nonce_serves_once()
    {
        var window = new NonceWindow(100, Skew);
        Assert.Equal(NonceVerdict.Fresh, window.Use("a", Start, Start));
        Assert.Equal(NonceVerdict.Used, window.Use("a", Start, Start));
        Assert.Equal(NonceVerdict.Fresh, window.Use("b", Start, Start));
    }

    [Fact]
    public void Nonces_that_can_no_longer_be_replayed_are_forgotten()
    {
        var window = new NonceWindow(100, Skew);
        window.Use("a", Start, Start);
        Assert.Equal(NonceVerdict.Fresh, window.Use("b", Start.AddMinutes(16), Start.AddMinutes(16)));
        Assert.Equal(1, window.Count);
    }

    [Fact]
    public void A_full_window_stays_bounded_and_never_permits_a_replay()
    {
        var window = new NonceWindow(100, Skew);
        for (var i = 0; i < 1_000; i++)
        {
            window.Use($"n{i}", Start.AddSeconds(i / 10), Start.AddSeconds(i / 10));
            Assert.InRange(window.Count, 0, 100);
        }

        for (var i = 0; i < 1_000; i++)
        {
            Assert.NotEqual(NonceVerdict.Fresh, window.Use($"n{i}", Start.AddSeconds(i / 10), Start.AddSeconds(100)));
        }
    }

    [Fact]
    public void A_flood_within_one_second_stays_bounded_too()
    {
        var window = new NonceWindow(100, Skew);
        for (var i = 0; i < 1_000; i++)
        {
            window.Use($"n{i}", Start, Start);
            Assert.InRange(window.Count, 0, 100);
        }

        Assert.Equal(NonceVerdict.Fresh, window.Use("later", Start.AddSeconds(1), Start));
    }
}
