namespace GpuTasks.SystemTests;

/// <summary>Waiting with a deadline for what must come.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    /// <summary>Asks until the answer is accepted.</summary>
    /// <exception cref="TimeoutException">It did not come in time; the message holds the last answer.</exception>
    public static async Task<T> ComesAsync<T>(string what, TimeSpan patience, Func<Task<T>> ask, Func<T, bool> accept)
    {
        var deadline = DateTime.UtcNow + patience;
        while (true)
        {
            var answer = await ask();
            if (accept(answer))
            {
                return answer;
            }

            if (DateTime.UtcNow > deadline)
            {
                throw new TimeoutException($"{what} did not come within {patience.TotalSeconds:0} s; last seen: {answer}");
            }

            await Task.Delay(Pause);
        }
    }
}
