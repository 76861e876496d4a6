namespace GpuTasks.Relay.Tests;

/// <summary>How long a test waits for something that should happen soon, on a machine with much else to do.</summary>
internal static class Deadline
{
    internal static readonly TimeSpan Long = TimeSpan.FromSeconds(60);

    internal static CancellationToken Token => new CancellationTokenSource(Long).Token;

    /// <summary>Asks until the answer is yes; for things that tell nobody when they change.</summary>
    internal static async Task UntilAsync(Func<Task<bool>> condition, string what)
    {
        var token = Token;
        while (!await condition())
        {
            Assert.False(token.IsCancellationRequested, $"Not seen within {Long.TotalSeconds} s: {what}.");
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }
}
