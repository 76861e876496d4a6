using CsCheck;
using GpuTasks.Dispatch;

namespace GpuTasks.Tests.Dispatch;

public sealed class TicketWindowTests
{
    private static Ticket T(int at, int priority = 0) => new($"t{at:D5}", priority, DateTimeOffset.FromUnixTimeMilliseconds(at));

    [Fact]
    public void Higher_priority_goes_first_then_earlier()
    {
        var window = new TicketWindow(16);
        foreach (var ticket in new[] { T(3), T(1), T(2, 5), T(4, 5) })
        {
            window.Offer(ticket);
        }

        Assert.Equal([T(2, 5), T(4, 5), T(1), T(3)], Drain(window));
    }

    [Fact]
    public void What_does_not_fit_stays_in_the_store_and_is_paged_in_again()
    {
        var window = new TicketWindow(4);
        var store = Enumerable.Range(0, 10).Select(i => T(i)).ToList();
        store.ForEach(window.Offer);
        Assert.Equal((4, true), (window.Count, window.HasMore));
        Assert.Equal(store, DrainWithRefills(window, store, 4));
        Assert.False(window.HasMore);
    }

    [Fact]
    public void A_ticket_behind_a_gap_waits_for_its_turn()
    {
        var window = new TicketWindow(2);
        foreach (var i in Enumerable.Range(0, 3))
        {
            window.Offer(T(i));
        }

        window.Withdraw(T(0).TaskId);
        // Ticket 2 is in the store only; 9 must not overtake it.
        window.Offer(T(9));
        Assert.Equal([T(1)], Drain(window));
    }

    [Fact]
    public void Random_offers_and_refills_lose_nothing_and_keep_the_order() =>
        Gen.Select(Gen.Int[0, 400].HashSet[1, 60], Gen.Int[4, 20]).Sample((times, capacity) =>
        {
            var offered = times.Select((at, i) => T(at, at % 3)).ToList();
            var window = new TicketWindow(capacity);
            offered.ForEach(window.Offer);
            Assert.True(window.Count <= capacity);
            var expected = offered.OrderBy(t => t, TicketOrder.Instance).ToList();
            Assert.Equal(expected, DrainWithRefills(window, expected, capacity));
        });

    private static List<Ticket> Drain(TicketWindow window)
    {
        var taken = new List<Ticket>();
        while (window.TryTake(out var ticket))
        {
            taken.Add(ticket);
        }

        return taken;
    }

    private static List<Ticket> DrainWithRefills(TicketWindow window, List<Ticket> store, int limit)
    {
        var left = store.ToList();
        var taken = new List<Ticket>();
        for (var round = 0; round < 1000; round++)
        {
            if (window.TryTake(out var ticket))
            {
                taken.Add(ticket);
                left.Remove(ticket);
                continue;
            }

            if (!window.HasMore)
            {
                break;
            }

            var page = left.Take(limit).ToList();
            window.Refill(page, page.Count > 0 ? page[^1] : null, page.Count == limit);
        }

        return taken;
    }
}
